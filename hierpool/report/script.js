"use strict";
(() => {
  const page = document.documentElement;
  page.classList.add("js");
  const status = document.getElementById("status");
  const say = (text) => { status.textContent = text; };

  // Theme: as the system, light, dark, and round again.
  const themes = ["as the system", "light", "dark"];
  const toggle = document.getElementById("theme");
  let theme = 0;
  toggle.addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    if (theme) page.dataset.theme = themes[theme];
    else delete page.dataset.theme;
    toggle.textContent = `Theme: ${themes[theme]}`;
  });

  // A cell's value: what the download holds.
  const exact = (cell) => cell.dataset.v ?? cell.textContent.trim();

  // A text that a spreadsheet would take for a formula gets an apostrophe; numbers stay numbers.
  const field = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) || safe !== safe.trim() ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  const compare = (isNumber) => {
    const letters = new Intl.Collator(undefined, { numeric: true });
    return (a, b) => (isNumber ? a - b : letters.compare(a, b));
  };

  for (const box of document.querySelectorAll(".table:not(.small)")) {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const shown = Number(box.dataset.shown);
    const search = box.querySelector("input");
    const all = box.querySelector(".all");
    const count = box.querySelector(".count");
    let rows = [...body.rows];
    const total = rows.length;

    // Which rows are seen: those found, and of these the first few until all are asked for.
    const fold = () => {
      const wanted = (search?.value ?? "").trim().toLowerCase();
      let found = 0;
      for (const row of rows) {
        const lost = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
        row.classList.toggle("lost", lost);
        row.classList.toggle("rest", !lost && ++found > shown);
      }
      if (!count) return;
      const seen = box.classList.contains("open") ? found : Math.min(found, shown);
      count.textContent = wanted
        ? `${seen} of ${found} rows found, ${total} in all.`
        : `${seen} of ${total} rows shown; the CSV has all.`;
    };

    const sort = (column) => {
      const head = heads[column];
      const isNumber = head.dataset.kind === "number";
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const by = compare(isNumber);
      const keyed = rows.map((row) => {
        const text = exact(row.cells[column]);
        return [row, isNumber ? Number(text) : text, text === ""];
      });
      keyed.sort((a, b) => a[2] - b[2] || (a[2] ? 0 : sign * by(a[1], b[1]))); // missing ones last
      rows = keyed.map(([row]) => row);
      body.append(...rows);
      fold();
      say(`Sorted by ${head.dataset.name}, ${order}.`);
    };
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(column));
    });

    search?.addEventListener("input", fold);
    all?.addEventListener("click", () => {
      const open = box.classList.toggle("open");
      all.setAttribute("aria-expanded", String(open));
      all.textContent = open ? `Show ${shown} rows` : `Show all ${total} rows`;
      fold();
    });

    box.querySelector(".csv").addEventListener("click", () => {
      const lines = [heads.map((head) => field(head.dataset.name))];
      for (const row of rows) lines.push([...row.cells].map((cell) => field(exact(cell))));
      const text = `\uFEFF${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
      link.download = `${box.dataset.name}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      say(`${box.dataset.name}.csv downloaded.`);
    });
    fold();
  }

  // Paper has nothing to click on: what is folded is opened for it, but for meanings of columns.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not(.glossary):not([open])")];
    for (const folded of opened) folded.open = true;
  });
  addEventListener("afterprint", () => {
    for (const folded of opened) folded.open = false;
  });

  for (const box of document.querySelectorAll(".listing")) {
    const button = box.querySelector(".copy");
    button.addEventListener("click", async () => {
      const text = box.querySelector("pre, .paper");
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch { // no permission: select it, so that the reader's own keys copy it
        getSelection().selectAllChildren(text);
        button.textContent = "Selected";
      }
    });
  }
})();
