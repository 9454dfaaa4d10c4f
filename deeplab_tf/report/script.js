"use strict";

// --- light and dark ---
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});

// --- tables sorted by a column; cells without a number come last either way ---
function sortTable(header) {
  const table = header.closest("table");
  const column = header.cellIndex;
  const text = header.dataset.sort === "text";
  const first = text ? "ascending" : "descending";
  const second = text ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? second : first;
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (text) return sign * key(a).localeCompare(key(b));
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    return sign * (Number(key(a)) - Number(key(b)));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
}
for (const header of document.querySelectorAll("th[data-sort]")) {
  header.querySelector("button").addEventListener("click", () => sortTable(header));
}

// --- pictures: one view left of the divider, another one right of it ---
// The error is laid over the image, so that the image shows wherever one of the two does.
function show(stack) {
  const { left, right } = stack.dataset;
  const at = Number(stack.querySelector("input").value);
  const shown = (view, name) => view === name || (view === "error" && name === "image");
  stack.style.setProperty("--at", at);
  stack.classList.toggle("whole", left === right);
  for (const picture of stack.querySelectorAll("img")) {
    const name = picture.dataset.view;
    const onLeft = shown(left, name);
    const onRight = shown(right, name);
    picture.classList.toggle("hidden", !onLeft && !onRight);
    picture.style.clipPath =
      onLeft && onRight ? "none" : onLeft ? `inset(0 ${100 - at}% 0 0)` : `inset(0 0 0 ${at}%)`;
  }
  const [leftName, rightName] = stack.querySelectorAll("b");
  leftName.textContent = left;
  rightName.textContent = right;
  rightName.hidden = left === right;
  stack.querySelector("input").setAttribute(
    "aria-valuetext", `${at} percent ${left}, ${100 - at} percent ${right}`);
}
const stacks = document.querySelectorAll(".stack");
for (const stack of stacks) {
  stack.querySelector("input").addEventListener("input", () => show(stack));
  show(stack);
}
for (const select of document.querySelectorAll(".views select")) {
  select.addEventListener("change", () => {
    for (const other of document.querySelectorAll(`.views select[data-side=${select.dataset.side}]`)) {
      other.value = select.value;
    }
    for (const stack of stacks) {
      stack.dataset[select.dataset.side] = select.value;
      show(stack);
    }
  });
}
