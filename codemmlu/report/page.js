"use strict";
// The list of questions. Whatever is shown is put in place as text: nothing of it is ever read as markup.
const list = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const at = (id) => document.getElementById(id);
  let texts = null; // what is searched, made when it is first needed
  let chosen = data.questions;
  let place = 0;

  function element(kind, cls, ...children) {
    const made = document.createElement(kind);
    if (cls) made.className = cls;
    made.append(...children.filter((child) => child !== null && child !== undefined).map((c) => (c instanceof Node ? c : String(c))));
    return made;
  }

  const percent = (p) => (p === undefined ? "" : p.toFixed(3));
  const mark = (said, right) => (right === null || said === null ? "" : said === right ? "right" : "wrong");

  function table(heads, rows) {
    const body = rows.map((cells) => element("tr", "", ...cells.map((cell, n) => (cell instanceof HTMLTableCellElement ? cell : element(n ? "td" : "th", "", cell)))));
    return scrolled(element("table", "", element("thead", "", element("tr", "", ...heads.map((h) => element(h === "" ? "td" : "th", "", h)))), element("tbody", "", ...body)));
  }

  function readable(text) {
    const made = element("pre", "", text);
    made.tabIndex = 0;
    return made;
  }

  // A table that may be wider than the window: it has to be reached by the keyboard to be scrolled.
  function scrolled(made) {
    const around = element("div", "wide", made);
    around.tabIndex = 0;
    around.setAttribute("role", "group");
    around.setAttribute("aria-label", "table");
    return around;
  }

  function odds(question) {
    const letters = question.c.map((_, n) => LETTERS[n]);
    const line = (name, said, p, status) => [
      name,
      element("td", mark(said, question.a), said === null || said === undefined ? status : said),
      ...letters.map((letter, n) => element("td", letter === said ? "best" : "", p.length ? percent(p[n]) : "")),
    ];
    const rows = question.v.map((voter, n) => line(data.voters[n], voter.l, voter.p, voter.st));
    if (rows.length > 1) rows.push(line("verdict", question.l, question.p, "none"));
    return table(["voter", "answer", ...letters], rows);
  }

  function turns(name, voter) {
    const made = [];
    if (voter.e) made.push(element("p", "wrong", `${name} failed: ${voter.e}`));
    if (voter.t) {
      const lines = voter.t.map((t) => element("li", "", `${t.k}${t.l ? " " + t.l : ""}${t.p === null ? "" : ", P(TRUE) " + t.p.toFixed(3)}${t.f ? " (" + t.f + ")" : ""}`, t.x ? readable(t.x) : null));
      made.push(element("details", "", element("summary", "", `${name}: ${voter.t.length} turns`), element("ol", "", ...lines)));
    }
    if (voter.r) {
      const lines = voter.r.map(([order, logs]) => [order, ...logs.map((x, n) => `${LETTERS[n]} ${Math.exp(x).toFixed(3)}`)]);
      made.push(element("details", "", element("summary", "", `${name}: ${voter.r.length} readings`), table(["choices shown as", ...voter.r[0][1].map((_, n) => LETTERS[n])], lines)));
    }
    if (voter.n) made.push(element("details", "", element("summary", "", `${name}: nearest examples`), table(["example", "similarity"], voter.n.map(([id, s]) => [id, s.toFixed(3)]))));
    return made;
  }

  function body(question) {
    const choices = question.c.map((choice, n) => element("li", LETTERS[n] === question.a ? "right" : "", element("span", "key", LETTERS[n]), element("span", "", choice)));
    return element(
      "div",
      "body",
      element("p", "note", `${question.id}${question.s ? ", " + question.s : ""}${question.a ? ", right: " + question.a : ", unlabelled"}`),
      readable(question.q),
      element("ol", "choices", ...choices),
      odds(question),
      ...question.v.flatMap((voter, n) => turns(data.voters[n], voter)),
    );
  }

  function line(question) {
    const said = question.l === null ? "none" : question.l;
    const title = element("span", "title", question.q.slice(0, 300));
    const made = element("details", "question", element("summary", "", element("span", mark(question.l, question.a), said), title, element("span", "id", question.id)));
    made.addEventListener("toggle", () => made.open && made.childElementCount === 1 && made.append(body(question)));
    return made;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    place = Math.min(Math.max(place, 0), pages - 1);
    at("questions").replaceChildren(...chosen.slice(place * PAGE, (place + 1) * PAGE).map(line));
    const of = data.questions.length === data.all ? "" : `, of the first ${data.questions.length.toLocaleString("en")}`;
    at("found").textContent = `${chosen.length.toLocaleString("en")} questions${of}`;
    at("place").textContent = `page ${place + 1} of ${pages}`;
    at("back").disabled = place === 0;
    at("on").disabled = place === pages - 1;
  }

  const FILTERS = {
    all: () => true,
    wrong: (q) => q.a !== null && q.l !== null && q.l !== q.a,
    right: (q) => q.a !== null && q.l === q.a,
    split: (q) => new Set(q.v.map((v) => v.l).filter((l) => l !== null)).size > 1,
    none: (q) => q.l === null,
  };

  function choose() {
    texts ??= data.questions.map((q) => [q.id, q.s ?? "", q.q, ...q.c].join("\n").toLowerCase());
    const wanted = at("search").value.trim().toLowerCase();
    const fits = FILTERS[at("filter").value];
    chosen = data.questions.filter((q, n) => fits(q) && (!wanted || texts[n].includes(wanted)));
    place = 0;
    show();
  }

  // Shows the questions of one cell of a table, under a name in the list of filters.
  function pick(name, fits) {
    let option = at("filter").querySelector("option[value=picked]");
    if (!option) at("filter").append((option = element("option")));
    option.value = "picked";
    option.textContent = name;
    FILTERS.picked = fits;
    at("filter").value = "picked";
    choose();
    at("list").scrollIntoView();
    at("filter").focus();
  }

  function turn(pages) {
    place += pages;
    show();
  }

  // Moves to the next or the previous question, from the one that has the focus.
  function step(by) {
    const heads = [...document.querySelectorAll("details.question > summary")];
    const now = heads.findIndex((head) => head.parentElement.contains(document.activeElement));
    const next = heads[now < 0 ? 0 : now + by];
    if (next) next.focus();
  }

  const KEYS = { "/": () => at("search").focus(), j: () => step(1), k: () => step(-1), n: () => turn(1), p: () => turn(-1) };
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  let waiting = 0;
  at("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 120);
  });
  at("filter").addEventListener("change", choose);
  at("back").addEventListener("click", () => turn(-1));
  at("on").addEventListener("click", () => turn(1));
  show();
  return { data, element, table, pick };
})();
