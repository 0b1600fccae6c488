// Tables that a click on a column's head sorts: numbers largest first, words in their order, and back.
(() => {
  "use strict";
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function valueOf(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  }

  function sort(table, column, head) {
    const isNumber = head.classList.contains("n");
    const was = head.getAttribute("aria-sort");
    const first = isNumber ? "descending" : "ascending";
    const second = isNumber ? "ascending" : "descending";
    const order = was === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const compare = (a, b) => {
      const [x, y] = [valueOf(a, column), valueOf(b, column)];
      // What has no value stands last, whichever way is up.
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (isNumber ? parseFloat(x) - parseFloat(y) : words.compare(x, y));
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column, head));
      head.append(button);
    });
  }
})();
