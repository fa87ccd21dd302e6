"use strict";

/** An element with a class and text; text is never read as HTML. */
function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  if (text) made.dir = "auto";
  return made;
}

/* The gallery: which cases the filters leave, and tiles for those in sight only. */
const Gallery = (() => {
  const { cases, images, causes } = window.DETCAM;
  const TILE = 164;
  const GAP = 12;
  const CAPTION = 54;
  const SPARE_ROWS = 3;
  const grid = document.getElementById("grid");
  const plain = (text) => text.normalize("NFC").toLowerCase();
  const texts = cases.map((item) =>
    plain([item.type, item.name, item.truth, item.explanation, item.died, item.id, images[item.image].name,
      item.cause && `${item.cause} ${causes[item.cause]?.name ?? ""}`].filter(Boolean).join("\n")));
  const areas = cases.map((item) => {
    const [x1, y1, x2, y2] = (item.type === "Miss" && item.truth_box) || item.box || item.truth_box || [0, 0, 0, 0];
    return Math.abs((x2 - x1) * (y2 - y1));
  });
  const SIZES = { small: (a) => a < 32 ** 2, medium: (a) => a >= 32 ** 2 && a < 96 ** 2, large: (a) => a >= 96 ** 2 };
  const CONTEXTS = {
    low: (c) => c < 0.2,
    middle: (c) => c >= 0.2 && c <= 0.5,
    high: (c) => c > 0.5,
    unknown: (c) => c === undefined,
  };
  const KEYS = {
    "": (n) => -(cases[n].confidence ?? -1),
    context: (n) => -(cases[n].context_dependence ?? -2),
    size: (n) => areas[n],
    image: (n) => cases[n].image,
  };
  const orders = {};
  const tiles = new Map();
  let filters = new URLSearchParams();
  let shown = [];
  let current = -1;
  let columns = 1;
  let width = TILE;

  const key = (params) => (Object.hasOwn(KEYS, params.get("sort")) ? params.get("sort") : "");

  /** Case numbers in the order asked for; sorted once for each order. */
  function ordered(sort) {
    return (orders[sort] ??= cases.map((_, n) => n).sort((a, b) => KEYS[sort](a) - KEYS[sort](b) || a - b));
  }

  /** The numbers of the cases that the filters leave. */
  function matching(params) {
    const types = params.getAll("type");
    const words = plain(params.get("q") ?? "").split(/\s+/).filter(Boolean);
    const [name, truth, cause, verdict] = ["class", "truth", "cause", "verdict"].map((field) => params.get(field));
    const [low, high] = [params.get("from"), params.get("to")].map((text) => (text ? Number(text) : null));
    const size = SIZES[params.get("size")];
    const context = CONTEXTS[params.get("context")];
    return ordered(key(params)).filter((n) => {
      const item = cases[n];
      if (types.length && !types.includes(item.type)) return false;
      if ((name && item.name !== name) || (truth && item.truth !== truth) || (cause && item.cause !== cause)) return false;
      if (low !== null && !(item.confidence >= low)) return false;
      if (high !== null && !(item.confidence <= high)) return false;
      if ((size && !size(areas[n])) || (context && !context(item.context_dependence))) return false;
      if (verdict && (Verdicts.get(item.id).verdict ?? "none") !== verdict) return false;
      if (!words.length) return true;
      const note = plain(Verdicts.get(item.id).note);
      return words.every((word) => texts[n].includes(word) || note.includes(word));
    });
  }

  /** Filter anew; the current case stays current where it is left. */
  function update(params) {
    filters = params;
    shown = matching(params);
    if (!shown.includes(current)) current = shown[0] ?? -1;
    document.getElementById("found").textContent =
      `${shown.length.toLocaleString("en")} of ${cases.length.toLocaleString("en")} cases`;
    document.getElementById("nothing").hidden = shown.length > 0;
    clear();
    draw();
  }

  function clear() {
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
  }

  /** Bring the tiles in sight up to date with where the page is scrolled to. */
  function draw() {
    if (!grid.clientWidth) return;
    const fitting = Math.max(Math.floor((grid.clientWidth + GAP) / (TILE + GAP)), 1);
    const side = Math.floor((grid.clientWidth + GAP) / fitting) - GAP;
    if (fitting !== columns || side !== width) clear();
    [columns, width] = [fitting, side];
    const row = width + CAPTION + GAP;
    grid.style.height = `${Math.ceil(shown.length / columns) * row}px`;
    const top = -grid.getBoundingClientRect().top;
    const first = Math.max(Math.floor(top / row) - SPARE_ROWS, 0) * columns;
    const last = Math.min((Math.ceil((top + innerHeight) / row) + SPARE_ROWS) * columns, shown.length);
    for (const [place, tile] of tiles) {
      if (place < first || place >= last) {
        tile.remove();
        tiles.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (tiles.has(place)) continue;
      const tile = makeTile(shown[place], place);
      tile.style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * row}px)`;
      tile.style.width = `${width}px`;
      tiles.set(place, tile);
      grid.append(tile);
    }
    mark();
  }

  function makeTile(number, place) {
    const item = cases[number];
    const tile = element("a", "tile");
    tile.href = `#/case?${new URLSearchParams([["id", item.id], ...filters])}`;
    tile.id = `case-${number}`;
    tile.tabIndex = -1;
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-setsize", shown.length);
    tile.setAttribute("aria-posinset", place + 1);
    const caption = element("span", "line");
    caption.append(element("b", "", item.type), element("span", "name", item.name), element("span", "n", score(item)));
    const other = item.truth && item.truth !== item.name ? `truth: ${item.truth}` : item.explanation ?? images[item.image].name;
    tile.append(picture(number), caption, element("span", "line name", other), element("span", "mark"));
    tile.title = `${item.type}: ${item.name}\n${images[item.image].name}`;
    return tile;
  }

  /** The part of the image around a case's box, or a field that says that there is none. */
  function picture(number) {
    const item = cases[number];
    if (images[item.image].problem) return element("span", "picture absent", "no image");
    const img = element("img", "picture");
    img.loading = "lazy";
    img.decoding = "async";
    img.alt = "";
    img.src = `pictures/thumbs/${number}.jpg`;
    return img;
  }

  const score = (item) => (item.confidence === undefined ? "" : item.confidence.toFixed(2));

  function mark() {
    for (const [place, tile] of tiles) {
      const number = shown[place];
      const { verdict, note } = Verdicts.get(cases[number].id);
      const words = [window.DETCAM.kinds[verdict], note && "note"].filter(Boolean).join(", ");
      tile.querySelector(".mark").textContent = words;
      tile.setAttribute("aria-selected", number === current);
    }
    if (current >= 0) grid.setAttribute("aria-activedescendant", `case-${current}`);
  }

  /** Make a case current and scroll to it. */
  function select(number) {
    current = number;
    const place = shown.indexOf(number);
    if (place >= 0 && grid.clientWidth) {
      const row = width + CAPTION + GAP;
      const top = grid.getBoundingClientRect().top + Math.floor(place / columns) * row;
      const head = document.querySelector("header").offsetHeight + GAP;
      if (top < head) scrollBy(0, top - head);
      else if (top + row > innerHeight) scrollBy(0, top + row - innerHeight);
    }
    draw();
  }

  /** The number of the case some places further on, held at the ends; -1 where none is left. */
  function neighbour(steps) {
    const place = shown.indexOf(current);
    if (place < 0) return shown[0] ?? -1;
    return shown[Math.min(Math.max(place + steps, 0), shown.length - 1)];
  }

  addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(draw));
  document.addEventListener("verdicts", mark);

  return {
    update, select, neighbour, picture, score,
    get current() { return current; },
    get columns() { return columns; },
    get shown() { return shown; },
  };
})();
