"use strict";
// What a page needs once it is there, and again for what is new of it: each script adds its part.
const PREPARED = [];
const prepare = () => PREPARED.forEach((part) => part());
addEventListener("DOMContentLoaded", prepare);

// A table that is wider than its place becomes a list: each cell has the name of its column.
function fitTables() {
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    for (const row of table.tBodies[0]?.rows ?? []) {
      [...row.cells].forEach((cell, at) => { if (at && cell.colSpan === 1) cell.dataset.label = heads[at] ?? ""; });
    }
    table.classList.remove("stacked");
    table.classList.toggle("stacked", table.offsetWidth > table.parentElement.clientWidth + 1);
  }
}
addEventListener("resize", fitTables);
document.addEventListener("toggle", fitTables, true);
PREPARED.push(fitTables);
