// A page of a board asks for itself again and shows what is new. What was chosen, opened and ticked stays.
const refresh = 1000 * Number(document.documentElement.dataset.refresh);
let tag = "";

function replacePage(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const opened = [...document.querySelectorAll("details")].map((fold) => fold.open);
  const ticked = new Set([...document.querySelectorAll("input:checked")].map((box) => box.value));
  const pressed = [...document.querySelectorAll("[data-choice]")].map((choice) =>
    [choice.dataset.choice, choice.querySelector("[aria-pressed=true]")?.value]);
  for (const part of ["header", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
  document.title = fresh.title;
  [...document.querySelectorAll("details")].forEach((fold, at) => { fold.open = opened[at] ?? fold.open; });
  for (const box of document.querySelectorAll("input")) box.checked = ticked.has(box.value);
  prepare();
  for (const [name, value] of pressed) {
    if (value !== undefined) document.querySelector(`[data-choice="${name}"] button[value="${value}"]`)?.click();
  }
}
async function ask() {
  const busy = document.hidden || document.querySelector("figure :focus, figure:hover, :focus.text");
  try {
    const answer = busy ? null : await fetch(location.href, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer?.status === 200) {
      replacePage(await answer.text());
      tag = answer.headers.get("ETag");
    }
    if (answer) document.querySelector(".lost").hidden = answer.status < 400;
  } catch {
    document.querySelector(".lost").hidden = false;
  }
  setTimeout(ask, refresh);
}
setTimeout(ask, refresh);
