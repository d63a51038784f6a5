// Tables whose headings sort them, texts to copy, links to files: on every page, with maps or without.

function sortTables() {
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const number = (text) => (text === "n/a" || text === "" ? NaN : Number(text.replace("−", "-")));
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const text = head.textContent;
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const cells = rows.map((row) => row.cells[column]?.textContent.trim() ?? "");
        const numbers = cells.map(number);
        const numeric = numbers.some((value) => !Number.isNaN(value));
        const order = rows.map((_, k) => k).sort((p, q) => {
          const way = down ? -1 : 1;
          if (!numeric) return way * compare(cells[p], cells[q]);
          return Number.isNaN(numbers[p]) - Number.isNaN(numbers[q]) || way * (numbers[p] - numbers[q]);
        });
        body.append(...order.map((k) => rows[k]));
      };
      head.replaceChildren(element("button", { type: "button", onclick: sort }, text));
    });
  }
}

// Whether a text could be put into the clipboard: not on pages of other computers, nor in every frame.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copyButtons() {
  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.hidden = false;
    button.onclick = async () => {
      const source = byId(button.dataset.copies);
      const done = await copied(source.innerText);
      if (!done) getSelection().selectAllChildren(source);
      byId("status").textContent = done ? "Copied." : "Selected: copy it with the keyboard.";
    };
  }
}

// Files lie beside a page on a disk, but not beside its address in a server or a notebook's frame.
function keepLinks() {
  if (/\.html?$/i.test(location.pathname)) return;
  for (const link of document.querySelectorAll('a[href^="./"]')) link.replaceWith(link.textContent);
}
