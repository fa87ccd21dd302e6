"use strict";

/* The page: which view is open and with which filters (both in the address), the keyboard, dialogs and tables. */
(() => {
  const { cases } = window.DETCAM;
  const VIEWS = ["overview", "causes", "gallery", "case"];
  const SETTLED_MS = 200;
  const $ = (id) => document.getElementById(id);
  const numbers = new Map(cases.map((item, number) => [item.id, number]));
  const form = $("filters");
  const scrolled = {};
  let view = "";
  let filters = null;
  let writing = 0;
  let unwritten = "";

  const link = (name, params) => `#/${name}${params.size ? `?${params}` : ""}`;

  /** Open what the address says. */
  function route() {
    if (view && !location.hash.startsWith("#/")) return; // a place on the page, such as the skip link's
    const [, name = "", query = ""] = /^#\/([a-z]*)\??(.*)$/s.exec(location.hash) ?? [];
    const params = new URLSearchParams(query);
    const number = numbers.get(params.get("id"));
    params.delete("id");
    let next = VIEWS.includes(name) ? name : "overview";
    if (next === "case" && number === undefined) next = "gallery";
    const arrived = next !== view;
    if (arrived) {
      scrolled[view] = scrollY;
      for (const other of VIEWS) $(`view-${other}`).hidden = other !== next;
      view = next;
    }
    for (const item of document.querySelectorAll("nav a")) {
      const here = item.hash === `#/${view === "case" ? "gallery" : view}`;
      if (here) item.setAttribute("aria-current", "page");
      else item.removeAttribute("aria-current");
    }
    if (view === "gallery" || view === "case") filter(params, arrived && view === "gallery");
    if (view === "case") openCase(number);
    if (arrived) arrive();
  }

  /* Coming back to the gallery filters anew: verdicts may have changed. Going from case to case does not. */
  function filter(params, anew) {
    if (!anew && String(params) === String(filters)) return;
    filters = params;
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = params.getAll("type").includes(field.value);
      else if (field.name && document.activeElement !== field) field.value = params.get(field.name) ?? "";
    }
    Gallery.update(params);
  }

  function arrive() {
    scrollTo(0, scrolled[view] ?? 0);
    if (view === "gallery") {
      Gallery.select(Gallery.current);
      $("grid").focus({ preventScroll: true });
    } else if (view === "case") {
      scrollTo(0, 0);
      $("main").focus({ preventScroll: true });
    }
  }

  function openCase(number) {
    Gallery.select(number);
    Detail.show(number);
    const place = Gallery.shown.indexOf(number) + 1;
    $("place").textContent = place ? `${place.toLocaleString("en")} of ${Gallery.shown.length.toLocaleString("en")}` : "outside the filters";
    $("back").href = link("gallery", filters);
  }

  /** Write the address without a step in the history; held keys would write it too often. */
  function write(hash) {
    clearTimeout(writing);
    unwritten = hash;
    writing = setTimeout(settle, SETTLED_MS);
  }

  function settle() {
    clearTimeout(writing);
    if (unwritten) history.replaceState(null, "", unwritten);
    unwritten = "";
  }

  function follow(hash) {
    settle();
    location.hash = hash;
  }

  const caseLink = (number) => link("case", new URLSearchParams([["id", cases[number].id], ...filters]));

  function move(steps) {
    const number = Gallery.neighbour(steps);
    if (number < 0) return;
    if (view === "case") {
      openCase(number);
      write(caseLink(number));
    } else {
      Gallery.select(number);
    }
  }

  function refilter() {
    const params = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    filter(params, true);
    write(link("gallery", params));
  }

  $("view-gallery").addEventListener("input", refilter); // the order is asked for outside the form's element
  form.addEventListener("reset", () => setTimeout(refilter));
  form.addEventListener("submit", (event) => event.preventDefault());
  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));

  /* The keyboard. Letters typed into a field are text; only Escape leaves it. */
  const MOVES = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 };
  const SWITCHES = { h: "heat", b: "show-boxes", z: "zoom" };
  const KINDS = [null, ...Object.keys(window.DETCAM.kinds)];

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = target.matches("textarea, select, input:not([type=checkbox], [type=range])");
    if (key === "Escape") leave(typing && target);
    else if (typing || !press(key, target)) return;
    event.preventDefault();
  });

  function leave(field) {
    if (field) (view === "gallery" ? $("grid") : $("main")).focus({ preventScroll: true });
    else if (view === "case") follow(link("gallery", filters));
    else if (view === "gallery") follow("#/overview");
  }

  /** Do what a key stands for; whether it stands for anything here. */
  function press(key, target) {
    const cased = view === "case" || (view === "gallery" && Gallery.current >= 0);
    if (key === "?") $("help").showModal();
    else if (key === "/") search();
    else if (!cased || (target.type === "range" && key.startsWith("Arrow"))) return false;
    else if (key in MOVES) move(MOVES[key] * (view === "gallery" && /Up|Down/.test(key) ? Gallery.columns : 1));
    else if (/^[0-3]$/.test(key)) Verdicts.set(cases[Gallery.current].id, { verdict: KINDS[key] });
    else if (view === "gallery" && key === "Enter" && target.matches("#grid, #main, body")) follow(caseLink(Gallery.current));
    else if (view === "case" && key in SWITCHES) $(SWITCHES[key]).click();
    else if (view === "case" && key === "n") $("note").focus();
    else return false;
    return true;
  }

  function search() {
    if (view === "gallery") return $("search").select();
    addEventListener("hashchange", () => $("search").select(), { once: true });
    return follow(link("gallery", filters ?? new URLSearchParams()));
  }

  $("open-help").addEventListener("click", () => $("help").showModal());
  $("open-verdicts").addEventListener("click", () => $("verdicts").showModal());
  $("theme").addEventListener("click", () => ($("theme").textContent = `Theme: ${Theme.turn()}`));
  $("theme").textContent = `Theme: ${Theme.name}`;

  document.addEventListener("verdicts", () => {
    const totals = Verdicts.totals();
    for (const cell of document.querySelectorAll("[data-total]")) {
      cell.textContent = totals[cell.dataset.total].toLocaleString("en");
    }
    $("progress").textContent = `${(cases.length - totals[""]).toLocaleString("en")} / ${cases.length.toLocaleString("en")}`;
  });
  document.addEventListener("kept", ({ detail: { text, failed } }) => {
    $("kept").textContent = text;
    $("notice").textContent = failed ? text : "";
    $("notice").hidden = !failed;
  });

  function download(text, suffix, type) {
    const made = document.createElement("a");
    made.href = URL.createObjectURL(new Blob([text], { type }));
    made.download = `verdicts.${suffix}`;
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 1000);
  }

  $("export-json").addEventListener("click", () => download(Verdicts.toJson(), "json", "application/json"));
  $("export-csv").addEventListener("click", () => download(Verdicts.toCsv(), "csv", "text/csv"));
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    const said = await Verdicts.read(file).catch((error) => `${file.name} was not read: ${error.message}`);
    $("imported").textContent = said;
    target.value = "";
  });

  /* Tables sorted by a click on a column's name: numbers from the largest, names from a. */
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sortTable(table, button.closest("th")));
    }
  }

  function sortTable(table, head) {
    const column = head.cellIndex;
    const direction = head.getAttribute("aria-sort") === "descending" || !column ? "ascending" : "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const value = (row) => row.cells[column].textContent.trim();
    const number = (row) => Number.parseFloat(value(row).replaceAll(",", "")) || 0;
    const sorted = [...table.tBodies[0].rows].sort((a, b) => (column ? number(a) - number(b) : value(a).localeCompare(value(b))));
    table.tBodies[0].append(...(direction === "descending" ? sorted.reverse() : sorted));
  }

  addEventListener("hashchange", () => {
    unwritten = ""; // of the page that was left
    route();
  });
  if (innerWidth < 760) $("more").open = false;
  route();
  Verdicts.start();
})();
