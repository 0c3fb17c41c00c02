// A button at each table of the page that copies the table as Markdown.
(() => {
  const text = (cell) => cell.innerText.trim().replaceAll("|", "\\|").replace(/\s+/g, " ");

  function markdown(table) {
    const rows = [...table.rows].map((row) => [...row.cells].flatMap((cell) => [text(cell), ...Array(cell.colSpan - 1).fill("")]));
    const width = Math.max(...rows.map((row) => row.length));
    const lines = rows.map((row) => `| ${[...row, ...Array(width - row.length).fill("")].join(" | ")} |`);
    return [lines[0], `|${"---|".repeat(width)}`, ...lines.slice(1)].join("\n");
  }

  async function copy(words) {
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: words });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  for (const around of document.querySelectorAll("main > section .wide.copied")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy as Markdown" });
    button.addEventListener("click", async () => {
      await copy(markdown(around.querySelector("table")));
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy as Markdown"; }, 1500);
    });
    around.after(button);
  }
})();
