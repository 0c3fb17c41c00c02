// Two voters side by side: who is right where the other is wrong, and which letters they take for which.
(() => {
  const { data, element, table, pick } = list;
  const at = (id) => document.getElementById(id);
  const VOTE = data.voters.length > 1 ? ["vote"] : [];
  const names = [...data.voters, ...VOTE];
  const answer = (question, n) => (n < data.voters.length ? question.v[n].l : question.l);
  const asked = (question, n) => n >= data.voters.length || !["failed", "skipped"].includes(question.v[n].st);
  const labelled = data.questions.some((question) => question.a !== null);
  const letter = (value) => value ?? "none";

  function counted(name, fits) {
    const count = data.questions.filter(fits).length;
    if (!count) return element("td", "dim", "0");
    const button = element("button", "", count.toLocaleString("en"));
    button.type = "button";
    button.setAttribute("aria-label", `${count} questions: ${name}`);
    button.addEventListener("click", () => pick(name, fits));
    return element("td", "", button);
  }

  function flips(first, second) {
    const both = (question) => question.a !== null && asked(question, first) && asked(question, second);
    const right = (question, n) => answer(question, n) === question.a;
    const row = (ofFirst, ofSecond, name) => counted(name, (q) => both(q) && right(q, first) === ofFirst && right(q, second) === ofSecond);
    const [one, other] = [names[first], names[second]];
    return titled("Right and wrong", table(["", `${other} right`, `${other} wrong`], [
      [`${one} right`, row(true, true, "both right"), row(true, false, `only ${one} right`)],
      [`${one} wrong`, row(false, true, `only ${other} right`), row(false, false, "both wrong")],
    ]));
  }

  function matrix(title, across, down, lines, columns) {
    const used = (of) => [...new Set(data.questions.map(of))].sort((a, b) => (a === "none") - (b === "none") || (a < b ? -1 : 1));
    const [rows, heads] = [used(lines).filter((l) => l !== ""), used(columns).filter((l) => l !== "")];
    const cells = rows.map((line) => [`${down} ${line}`, ...heads.map((head) => counted(`${down} ${line}, ${across} ${head}`, (q) => lines(q) === line && columns(q) === head))]);
    return titled(title, table(["", ...heads.map((head) => `${across} ${head}`)], cells));
  }

  function titled(title, made) {
    made.setAttribute("aria-label", title);
    return element("div", "", element("h3", "", title), made);
  }

  function show() {
    const [first, second] = [Number(at("first").value), Number(at("second").value)];
    const of = (n) => (question) => (asked(question, n) ? letter(answer(question, n)) : "");
    const right = (question) => question.a ?? "";
    const parts = [];
    if (labelled && names.length > 1) parts.push(flips(first, second));
    for (const n of labelled ? new Set([first, second]) : []) {
      const among = (question) => (question.a === null ? "" : of(n)(question));
      parts.push(matrix(`Predicted letters of ${names[n]}`, "predicted", "right", (q) => (asked(q, n) ? right(q) : ""), among));
    }
    if (names.length > 1) parts.push(matrix("Letter by letter", names[second], names[first], of(first), of(second)));
    at("compared").replaceChildren(...parts);
  }

  if (!labelled && names.length < 2) return;
  for (const id of ["first", "second"]) {
    at(id).append(...names.map((name, n) => Object.assign(element("option", "", name), { value: n })));
    at(id).addEventListener("change", show);
    at(id).parentElement.hidden = names.length < 2;
  }
  at("second").value = names.length - 1;
  at("compare").hidden = false;
  show();
})();
