"use strict";

// The token stands behind the address's #, which no browser sends anywhere by itself.
const token = location.hash.slice(1);
const keys = { ArrowLeft: "left", ArrowRight: "right", t: "tie", ArrowDown: "tie", s: "skip", u: "undo", Backspace: "undo" };
const at = (id) => document.getElementById(id);
let row = null;
let since = 0;
let busy = false;

function pieces(parent, segments) {
  parent.replaceChildren(...segments.map(([text, differs]) => {
    const piece = document.createElement(differs ? "mark" : "span");
    piece.textContent = text;
    return piece;
  }));
}

function turns(parent, messages) {
  parent.replaceChildren(...messages.flatMap(({ role, text }) => {
    const body = document.createElement("div");
    body.className = "text";
    body.textContent = text;
    if (!role) return [body];
    const head = document.createElement("h2");
    head.textContent = role;
    return [head, body];
  }));
}

function show(state) {
  row = state.row;
  since = performance.now();
  at("bar").max = state.total;
  at("bar").value = state.done;
  at("count").textContent = `${state.done} of ${state.total}`;
  at("comparison").hidden = row === null;
  for (const button of document.querySelectorAll("button")) {
    button.disabled = button.dataset.choice === "undo" ? state.done === 0 : row === null;
  }
  if (row === null) {
    tell("Everything is judged. End with Ctrl-C where this was started.");
    return;
  }
  turns(at("prompt"), row.prompt);
  pieces(at("left"), row.left);
  pieces(at("right"), row.right);
  scrollTo(0, 0);
}

function tell(text, wrong = false) {
  at("message").textContent = text;
  at("message").className = wrong ? "wrong" : "";
}

async function ask(path, body) {
  const options = { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const reply = await fetch(path, options);
  if (!reply.ok) throw new Error((await reply.text()) || `HTTP ${reply.status}`);
  return reply.json();
}

async function choose(choice) {
  if (busy || (row === null && choice !== "undo")) return;
  busy = true;
  try {
    const seconds = Math.round(performance.now() - since) / 1000;
    show(choice === "undo" ? await ask("/undo", {}) : await ask("/verdict", { key: row.key, choice, seconds }));
    if (row !== null) tell(choice === "undo" ? "Taken back." : `Saved: ${choice}.`);
  } catch (error) {
    tell(`Not saved: ${error.message}. Reload the page, or start the command again.`, true);
  } finally {
    busy = false;
  }
}

document.addEventListener("keydown", (event) => {
  const choice = keys[event.key];
  if (!choice || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  choose(choice);
});
at("choices").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(button.dataset.choice);
});
ask("/state").then(show).catch((error) => tell(`Cannot load: ${error.message}. Use the whole address, # and all.`, true));
