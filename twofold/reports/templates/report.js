// The page is complete without this: here are only keys, filters, folds, and the choice of a language.
document.documentElement.classList.add("scripted");
const answers = () => [...document.querySelectorAll("article.side")];
const shown = () => answers().filter((answer) => !answer.hidden);

function step(by) {
  const open = shown(), at = open.indexOf(document.activeElement?.closest("article.side"));
  const to = open[Math.min(open.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : open.length - 1) : at + by))];
  if (!to) return;
  to.closest("details")?.setAttribute("open", "");
  to.focus();
  to.scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
});

// A group of buttons `data-choice="NAME"` sets CHOICES[NAME] to the value of the pressed one.
const CHOICES = {
  outcome(value) {
    for (const answer of answers()) answer.hidden = value !== "" && answer.dataset.outcome !== value;
  },
  markup(value, button) {
    button.setAttribute("aria-pressed", String(document.documentElement.classList.toggle("with-markup")));
  },
  language(value) {
    document.documentElement.lang = value;
    for (const text of document.querySelectorAll("[data-zh]")) {
      text.dataset.en ??= text.textContent;
      text.textContent = text.dataset[value];
    }
    fitTables();
  },
};
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-choice] button");
  if (!button) return;
  const choice = button.closest("[data-choice]");
  for (const other of choice.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  CHOICES[choice.dataset.choice](button.value, button);
});
function openChoices() {
  for (const choice of document.querySelectorAll(".choice, .controls")) {
    choice.hidden = choice.dataset.choice === "markup" && !document.querySelector(".markup");
  }
}

// What scrolls within the page can be reached by Tab, and only that.
function reach() {
  for (const box of document.querySelectorAll(".scroll, .text, pre")) {
    if (box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
PREPARED.push(openChoices, reach);

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open]):not(.more)")];
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
