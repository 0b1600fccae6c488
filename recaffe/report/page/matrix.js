// The confusion matrix: ordered as one likes, a cell opens the pictures behind it, arrows go from cell to cell.
(() => {
  "use strict";
  const { labels, totals, counts, orders, cells } = recaffe.data.matrix;
  const place = document.getElementById("matrix");
  const size = labels.length;
  const key = (row, column) => row * size + column;
  const count = new Map(counts.map(([row, column, n]) => [key(row, column), n]));
  const behind = new Map(cells.map(([row, column, found]) => [key(row, column), found]));
  let order = orders.label;
  let current = null;

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function open(row, column) {
    const heading =
      row === column
        ? `${labels[row]}, called so`
        : `${labels[row]}, called ${labels[column]}`;
    recaffe.show(heading, behind.get(key(row, column)) ?? [], count.get(key(row, column)));
  }

  function cell(row, column) {
    const made = element("td");
    const n = count.get(key(row, column));
    if (!n) return made;
    const button = element("button", n, row === column ? "hit" : "miss");
    const pictures = `${n} picture${n === 1 ? "" : "s"}`;
    button.type = "button";
    button.tabIndex = -1;
    button.style.setProperty("--share", n / totals[row]);
    button.title = `${labels[row]}, called ${labels[column]}: ${pictures}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => open(row, column));
    button.addEventListener("focus", () => choose(button));
    made.append(button);
    return made;
  }

  // One cell at a time takes part in the order of the Tab key.
  function choose(button) {
    if (current) current.tabIndex = -1;
    current = button;
    current.tabIndex = 0;
  }

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function move(event) {
    const step = steps[event.key];
    const from = event.target.closest("td");
    if (!step || !from) return;
    event.preventDefault();
    const rows = place.querySelector("tbody").rows;
    let row = from.parentElement.rowIndex - 1;
    let column = from.cellIndex;
    for (;;) {
      row += step[0];
      column += step[1];
      if (row < 0 || row >= size || column < 1 || column > size) return;
      const button = rows[row].cells[column].querySelector("button");
      if (button) {
        button.focus();
        return;
      }
    }
  }

  function draw() {
    const table = element("table");
    const [side, letters] = size <= 12 ? ["2.6rem", ".9rem"] : size <= 40 ? ["1.9rem", ".75rem"] : ["1.3rem", ".6rem"];
    table.style.setProperty("--cell", side);
    table.style.setProperty("--count", letters);
    const head = table.createTHead().insertRow();
    head.append(element("th", "true ↓ called →", "axis"));
    for (const column of order) {
      const th = element("th");
      th.scope = "col";
      th.append(element("span", labels[column]));
      th.title = labels[column];
      head.append(th);
    }
    const body = table.createTBody();
    for (const row of order) {
      const line = body.insertRow();
      const th = element("th", labels[row]);
      th.scope = "row";
      th.title = labels[row];
      line.append(th, ...order.map((column) => cell(row, column)));
    }
    wide.replaceChildren(table);
    // On paper nothing scrolls: 680 pixels are the width of A4 between its margins.
    table.style.setProperty("--fit", Math.min(1, 680 / table.offsetWidth));
    const first = table.querySelector("td button");
    if (first) choose(first);
  }

  const controls = element("p", undefined, "controls");
  const label = element("label", "Order by ");
  const select = element("select");
  for (const name of Object.keys(orders)) select.append(new Option(name, name));
  select.addEventListener("change", () => {
    order = orders[select.value];
    draw();
  });
  label.append(select);
  controls.append(label);
  const wide = element("div", undefined, "wide");
  wide.addEventListener("keydown", move);
  place.replaceChildren(controls, wide);
  draw();
})();
