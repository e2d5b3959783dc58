"use strict";
// What a page needs once it is there, and again for what is new of it: each script adds its part.
const PREPARED = [];
const prepare = () => PREPARED.forEach((part) => part());
addEventListener("DOMContentLoaded", prepare);

// On a phone a table is a list: each cell has the name of its column.
function labelTables() {
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    table.classList.add("stacked");
    for (const row of table.tBodies[0]?.rows ?? []) {
      [...row.cells].forEach((cell, at) => { if (at && cell.colSpan === 1) cell.dataset.label = heads[at] ?? ""; });
    }
  }
}
PREPARED.push(labelTables);
