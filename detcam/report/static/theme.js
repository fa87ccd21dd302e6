"use strict";

/* Light or dark: as the system, or as chosen; set before the page is drawn. */
const Theme = (() => {
  const KEY = "detcam:theme";
  const NAMES = { "": "auto", light: "light", dark: "dark" };

  function read() {
    try {
      return localStorage.getItem(KEY) ?? "";
    } catch {
      return "";
    }
  }

  function apply(name) {
    document.documentElement.dataset.theme = name in NAMES ? name : "";
    return NAMES[name] ?? NAMES[""];
  }

  /** Go to the next theme; returns its name. */
  function turn() {
    const names = Object.keys(NAMES);
    const name = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    try {
      localStorage.setItem(KEY, name);
    } catch {
      /* without storage the choice lasts as long as the page */
    }
    return apply(name);
  }

  return { turn, name: apply(read()) };
})();
