// One tab stop for each completion: arrows, Home and End move between its tokens. Without script each token is a stop.
function openHeat() {
  for (const heat of document.querySelectorAll(".heat")) {
    const tokens = [...heat.querySelectorAll(".t")];
    const stop = (chosen) => tokens.forEach((token) => { token.tabIndex = token === chosen ? 0 : -1; });
    stop(tokens[0]);
    heat.addEventListener("focusin", (event) => stop(event.target.closest(".t")));
    heat.addEventListener("keydown", (event) => {
      const at = tokens.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
      if (at < 0 || to === undefined || !tokens[to]) return;
      event.preventDefault();
      tokens[to].focus();
    });
  }
}
PREPARED.push(openHeat);
