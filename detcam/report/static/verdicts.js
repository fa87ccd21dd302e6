"use strict";

/* Verdicts on cases: kept in the browser, or by the local server that serves the page; written to files and read back.
   An entry is {verdict, note}; a patch maps ids to entries, or to null where one goes. */
const Verdicts = (() => {
  const { run, cases, kinds, verdicts: built } = window.DETCAM;
  const KEY = `detcam:${run}`;
  const RETRY_MS = 3000;
  const COLUMNS = ["id", "verdict", "note", "type", "class", "truth", "image"];
  const byId = new Map(cases.map((item) => [item.id, item]));
  const entries = new Map(Object.entries(built));
  let served = false;
  let pending = new Map();
  let sending = false;

  const get = (id) => entries.get(id) ?? { verdict: null, note: "" };

  /** Change a case's verdict or note; an entry that says nothing goes. */
  function set(id, change) {
    const entry = { ...get(id), ...change };
    apply(new Map([[id, entry.verdict || entry.note ? entry : null]]));
  }

  function apply(patch) {
    merge(patch);
    if (served) {
      pending = new Map([...pending, ...patch]);
      send();
    } else {
      keep(patch);
    }
    document.dispatchEvent(new CustomEvent("verdicts", { detail: [...patch.keys()] }));
  }

  function merge(patch) {
    for (const [id, entry] of patch) {
      if (entry) entries.set(id, entry);
      else entries.delete(id);
    }
  }

  /* In the browser: what was changed since the report was built. Read again before each write: tabs share it. */
  function stored() {
    return new Map(Object.entries(JSON.parse(localStorage.getItem(KEY) ?? "{}")));
  }

  function keep(patch) {
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.fromEntries([...stored(), ...patch])));
      say("Kept in this browser. Export them to keep them elsewhere.");
    } catch (error) {
      say(`This browser does not keep them (${error.message}): export them before you leave.`, true);
    }
  }

  async function send() {
    if (sending || !pending.size) return;
    sending = true;
    say("Saving.");
    const batch = pending;
    pending = new Map();
    try {
      const body = JSON.stringify(Object.fromEntries(batch));
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch("api/verdicts", { method: "PATCH", headers, body });
      if (!answer.ok) throw new Error(await answer.text());
    } catch (error) {
      pending = new Map([...batch, ...pending]);
      say(`Not saved yet (${error.message}); trying again. Is detcam still running?`, true);
      setTimeout(send, RETRY_MS);
      sending = false;
      return;
    }
    sending = false;
    if (pending.size) send();
    else say("Kept in verdicts.json in the run folder.");
  }

  function say(text, failed = false) {
    document.dispatchEvent(new CustomEvent("kept", { detail: { text, failed } }));
  }

  /** Take up what was kept; call once, when the page listens. */
  async function start() {
    if (location.protocol.startsWith("http")) {
      const answer = await fetch("api/verdicts").catch(() => null);
      served = Boolean(answer?.ok && answer.headers.get("Content-Type")?.startsWith("application/json"));
      if (served) {
        entries.clear();
        merge(new Map(Object.entries(await answer.json())));
        say("Kept in verdicts.json in the run folder.");
      }
      addEventListener("beforeunload", (event) => pending.size && event.preventDefault());
    }
    if (!served) {
      try {
        merge(stored());
      } catch {
        /* nothing readable was kept */
      }
      keep(new Map());
    }
    document.dispatchEvent(new CustomEvent("verdicts", { detail: [...entries.keys()] }));
  }

  /** How many of this report's cases have each verdict; "" counts those without. */
  function totals() {
    const counts = { "": 0, ...Object.fromEntries(Object.keys(kinds).map((kind) => [kind, 0])) };
    for (const item of cases) counts[get(item.id).verdict ?? ""] += 1;
    return counts;
  }

  const toJson = () => JSON.stringify(Object.fromEntries(entries), null, 1);

  function toCsv() {
    const rows = [...entries].map(([id, { verdict, note }]) => {
      const { type, name, truth, image } = byId.get(id) ?? {};
      return [id, verdict, note, type, name, truth, window.DETCAM.images[image]?.name];
    });
    return `\ufeff${[COLUMNS, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n")}\r\n`;
  }

  /* A cell that a spreadsheet would take for a formula starts with an apostrophe. */
  function quoted(value) {
    const text = String(value ?? "").replace(/^(?='*[=+\-@\t\r])/, "'");
    return /[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function readCsv(text) {
    const separator = /^[^\r\n,]*;/.test(text) ? ";" : ",";
    const cell = new RegExp(`("(?:[^"]|"")*"|(?!")[^${separator}\\r\\n]*)(${separator}|\\r?\\n|$)`, "y");
    const rows = [[]];
    while (cell.lastIndex < text.length) {
      const found = cell.exec(text);
      if (!found) throw new Error(`row ${rows.length}: a quotation mark is not closed`);
      const plain = found[1].startsWith('"') ? found[1].slice(1, -1).replaceAll('""', '"') : found[1];
      rows.at(-1).push(plain.replace(/^'(?='*[=+\-@\t\r])/, ""));
      if (found[2] !== separator && cell.lastIndex < text.length) rows.push([]);
    }
    const [head, ...body] = rows;
    const [id, verdict, note] = ["id", "verdict", "note"].map((name) => head.indexOf(name));
    if (id < 0 || verdict < 0) throw new Error("the first row must name the columns id, verdict and note");
    return body.map((row) => [row[id], { verdict: row[verdict] || null, note: row[note] ?? "" }]);
  }

  /** Read exported verdicts and take them over the present ones; returns what came of it, in words. */
  async function read(file) {
    const text = (await file.text()).replace(/^\ufeff/, "");
    const found = file.name.toLowerCase().endsWith(".csv") ? readCsv(text) : Object.entries(JSON.parse(text));
    const patch = new Map();
    for (const [id, entry] of found) {
      const { verdict, note = "" } = entry ?? {};
      if ((verdict !== null && !Object.hasOwn(kinds, verdict)) || typeof note !== "string") {
        throw new Error(`${id}: the verdict must be one of ${Object.keys(kinds).join(", ")}, not ${verdict}`);
      }
      if (byId.has(id)) patch.set(id, verdict || note ? { verdict, note } : null);
    }
    apply(patch);
    const others = found.length - patch.size;
    return `Read: ${patch.size}${others ? `; of cases this report does not have: ${others}` : ""}.`;
  }

  return { get, set, start, totals, toJson, toCsv, read };
})();
