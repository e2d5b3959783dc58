// Figures: values under the pointer and the arrow keys, other axes, smoothing, and files. Drawn again only where needed.
const SVG = "http://www.w3.org/2000/svg", USUAL = 0.1;
const view = { axis: "step", smoothing: USUAL };
let clocks = [], figures = [];

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const figureText = (value) => String(Number(value.toPrecision(4))).replace("-", "−");
function span(seconds) {
  const [size, unit] = seconds < 120 ? [1, "s"] : seconds < 7200 ? [60, "min"] : [3600, "h"];
  return `${Number((seconds / size).toPrecision(3))} ${unit}`;
}

function between(xs, ys, x) {
  const at = xs.findIndex((known) => known >= x);
  if (at <= 0) return at ? ys.at(-1) : ys[0];
  return ys[at - 1] + (ys[at] - ys[at - 1]) * (x - xs[at - 1]) / (xs[at] - xs[at - 1]);
}
function onClock(line, step, axis) {
  const clock = clocks[line.run];
  return clock?.[axis] ? between(clock.steps, clock[axis], step) : null;
}
function smooth(y, share) {
  const reach = Math.floor(y.length * share / 2 + 1e-9);
  return y.map((_, at) => {
    const part = y.slice(Math.max(0, at - reach), at + reach + 1);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}
function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((part) => part * power).find((part) => part >= rough);
  const found = [];
  for (let tick = Math.ceil(low / size) * size; tick <= high; tick += size) found.push(tick);
  return found;
}

function redraw(figure) {
  const { data, svg, overlay } = figure, along = data.lines.some((line) => line.run !== undefined);
  const axis = along ? view.axis : "step";
  figure.curves = data.lines.map((line) => {
    const x = axis === "step" ? line.x : line.x.map((step) => onClock(line, step, axis));
    return { line, x, mean: line.markers ? line.y : smooth(line.y, view.smoothing) };
  }).filter((curve) => curve.x[0] !== null);
  const last = Math.max(1e-9, ...figure.curves.map((curve) => Math.max(...curve.x)));
  figure.across = axis === "step" ? data.x : [-0.02 * last, 1.02 * last];
  figure.read = { step: (x) => along ? `${Math.round(x)}` : figureText(x), seconds: span, tokens: (x) => compact.format(x) }[axis];
  const [left, top, width, height] = data.box;
  figure.px = (x) => left + width * (x - figure.across[0]) / (figure.across[1] - figure.across[0]);
  figure.py = (y) => top + height * (1 - (y - data.y[0]) / (data.y[1] - data.y[0]));
  const plain = axis === "step" && (view.smoothing === USUAL || data.lines.every((line) => line.markers));
  svg.classList.toggle("redrawn", !plain);
  for (const text of figure.node.querySelectorAll("[data-axis]")) text.hidden = text.dataset.axis !== axis;
  overlay.replaceChildren();
  if (plain) return;
  figure.curves.forEach((curve) => drawCurve(figure, curve));
  const shown = axis === "step" ? ticks(...data.x) : ticks(0, last);
  for (const tick of shown) {
    element("text", { x: figure.px(tick), y: top + height + 14, "text-anchor": "middle" }, overlay).textContent = figure.read(tick);
  }
}
function drawCurve({ overlay, px, py }, { line, x, mean }) {
  const color = line.look === "ink" ? "currentColor" : `var(--${line.look})`;
  const path = (ys, xs = x) => xs.map((at, i) => `${i ? "L" : "M"}${px(at).toFixed(1)} ${py(ys[i]).toFixed(1)}`).join("");
  const stroke = (d, more) => element("path", { d, stroke: color, fill: "none", "stroke-linejoin": "round", ...more }, overlay);
  if (line.low && line.whiskers) x.forEach((at, i) => stroke(path([line.low[i], line.high[i]], [at, at]), { opacity: 0.45 }));
  else if (line.low) {
    const back = path([...line.high].reverse(), [...x].reverse()).replace("M", "L");
    element("path", { d: `${path(line.low)}${back}Z`, fill: color, opacity: 0.16 }, overlay);
  }
  if (!line.markers && mean.some((value, i) => value !== line.y[i])) stroke(path(line.y), { "stroke-width": 0.8, opacity: 0.3 });
  stroke(path(mean), { "stroke-width": 1.9 });
  if (line.markers) x.forEach((at, i) => element("circle", { cx: px(at), cy: py(line.y[i]), r: 2.2, fill: color }, overlay));
}

function nearest(xs, x) {
  let best = 0;
  xs.forEach((known, at) => { if (Math.abs(known - x) < Math.abs(xs[best] - x)) best = at; });
  return best;
}
function show(figure, x) {
  const { node, svg, tip, guide, data } = figure;
  if (!figure.curves.length) return;
  const near = figure.curves.map((curve) => [curve, nearest(curve.x, x)]);
  const [first, at] = near.reduce((a, b) => Math.abs(b[0].x[b[1]] - x) < Math.abs(a[0].x[a[1]] - x) ? b : a);
  figure.at = first.x[at];
  const write = (value) => data.percent ? `${figureText(100 * value)}%` : figureText(value);
  const legend = [...node.querySelectorAll(data.lines.length > 1 ? ".legend > span" : "h3")].map((name) => name.textContent);
  const names = legend.length === data.lines.length ? legend : data.lines.map((line) => line.label);
  const head = document.createElement("b");
  const bin = first.line.edges?.slice(at, at + 2).map(figureText).join(" – ");
  head.textContent = `${node.querySelector(".axis > span:not(.files):not([hidden])").textContent} ${bin ?? figure.read(figure.at)}`;
  const rows = near.slice(0, 12).map(([{ line, mean }, i]) => {
    const row = document.createElement("span"), dot = document.createElement("i");
    dot.className = "dot";
    dot.style.setProperty("--look", line.look === "ink" ? "currentColor" : `var(--${line.look})`);
    const interval = line.low ? ` [${write(line.low[i])}, ${write(line.high[i])}]` : "";
    const smoothed = mean[i] === line.y[i] ? "" : ` (≈ ${write(mean[i])})`;
    row.append(dot, `${names[data.lines.indexOf(line)]}: ${write(line.y[i])}${interval}${smoothed}`);
    return row;
  });
  tip.replaceChildren(head, ...rows);
  tip.hidden = false;
  const place = figure.px(figure.at), share = place / svg.viewBox.baseVal.width;
  guide.setAttribute("d", `M${place} ${data.box[1]}v${data.box[3]}`);
  tip.style.left = `${Math.max(0, Math.min(node.clientWidth - tip.offsetWidth, share * svg.clientWidth + (share > 0.5 ? -tip.offsetWidth - 10 : 10)))}px`;
}
function hide({ tip, guide }) {
  tip.hidden = true;
  guide.removeAttribute("d");
}
function follow(figure) {
  const { svg } = figure;
  const move = (event) => {
    const box = svg.getBoundingClientRect(), [a, b] = figure.across, [left, , width] = figure.data.box;
    show(figure, a + (b - a) * ((event.clientX - box.left) / box.width * svg.viewBox.baseVal.width - left) / width);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => hide(figure));
  svg.addEventListener("blur", () => hide(figure));
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide(figure);
    if (!by || !figure.curves.length) return;
    event.preventDefault();
    const xs = [...new Set(figure.curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    const at = figure.at === undefined ? (by > 0 ? -1 : xs.length) : nearest(xs, figure.at);
    show(figure, xs[Math.max(0, Math.min(xs.length - 1, at + by))]);
  });
}

function csv({ data }) {
  const cell = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const bins = data.lines.some((line) => line.edges);
  const rows = data.lines.flatMap((line) => line.x.map((x, i) => bins ? [line.label, line.edges[i], line.edges[i + 1], line.y[i]] : [
    line.label, x, onClock(line, x, "seconds"), onClock(line, x, "tokens"), line.y[i], line.low?.[i], line.high?.[i],
  ]));
  const head = bins ? ["line", "from", "to", "value"] : ["line", "x", "seconds", "tokens", "value", "low", "high"];
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
function picture({ svg, data, node }) {
  const copy = svg.cloneNode(true), { width, height } = svg.viewBox.baseVal;
  for (const old of copy.querySelectorAll(svg.classList.contains("redrawn") ? ".curve, .across, .guide" : ".redraw, .guide")) old.remove();
  copy.removeAttribute("tabindex");
  copy.setAttribute("viewBox", `0 0 ${width} ${height + 14}`);
  copy.prepend(element("rect", { width, height: height + 14, fill: "var(--paper)" }));
  let x = data.box[0];
  for (const { label, look } of data.lines.slice(0, 12)) {
    const color = look === "ink" ? "currentColor" : `var(--${look})`;
    element("text", { x, y: height + 8, fill: color, "font-size": 8.5 }, copy).textContent = label;
    x += 6 + 5 * label.length;
  }
  const style = getComputedStyle(node), color = (name) => style.getPropertyValue(name).trim();
  copy.setAttribute("font-family", "sans-serif");
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--[\w-]+)\)/g, (_, name) => color(name)).replaceAll("currentColor", color("--ink"));
}
function files(figure) {
  const box = document.createElement("span");
  box.className = "files";
  for (const [name, type, make] of [["CSV", "text/csv", csv], ["SVG", "image/svg+xml", picture]]) {
    const button = document.createElement("button"), title = figure.node.dataset.name;
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-label", `${name}: ${title}`);
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([make(figure)], { type }));
      link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}.${name.toLowerCase()}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    box.append(button);
  }
  figure.node.querySelector(".axis").prepend(box);
}

function openFigures() {
  clocks = JSON.parse(document.querySelector("[data-clocks]")?.dataset.clocks ?? "[]");
  figures = [...document.querySelectorAll("figure[data-figure]")].map((node) => {
    const svg = node.querySelector("svg"), data = JSON.parse(node.dataset.figure);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    node.querySelector(".drawing").append(tip);
    svg.tabIndex = 0;
    const overlay = element("g", { class: "redraw" }, svg), guide = element("path", { class: "guide" }, svg);
    const figure = { node, svg, data, tip, overlay, guide };
    follow(figure);
    files(figure);
    redraw(figure);
    return figure;
  });
}
CHOICES.axis = (value) => { view.axis = value; figures.forEach(redraw); };
CHOICES.smoothing = (value) => { view.smoothing = Number(value); figures.forEach(redraw); };
PREPARED.push(openFigures);
