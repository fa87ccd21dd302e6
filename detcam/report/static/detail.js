"use strict";

/* One case: its image, map and boxes, what speaks for it, the verdict, and cases like it. */
const Detail = (() => {
  const { cases, images, causes } = window.DETCAM;
  const SIMILAR = 12;
  const AROUND = 2;
  const $ = (id) => document.getElementById(id);
  const members = Map.groupBy(cases.keys(), (number) => cases[number].cause);
  let shown = null;

  function show(number) {
    const item = cases[number];
    shown = item;
    $("case-title").textContent = `${item.type}: ${item.name}`;
    $("explanation").textContent = [item.explanation, item.died].filter(Boolean).join(". ");
    drawStage(item, number);
    compare(item);
    receipt(item);
    similar(item, number);
    made(item);
    verdict();
  }

  function drawStage(item, number) {
    const image = images[item.image];
    const boxes = $("boxes");
    const label = item.confidence === undefined ? item.name : `${item.name} ${item.confidence.toFixed(2)}`;
    $("stage").style.setProperty("--ratio", (image.width || 4) / (image.height || 3));
    $("photograph").hidden = Boolean(image.problem);
    $("photograph").alt = image.name;
    setSource($("photograph"), image.problem ? "" : `pictures/images/${item.image}.jpg`);
    setSource($("heat-map"), item.heat ? `pictures/heat/${number}.png` : "");
    $("no-image").hidden = !image.problem;
    $("no-image").textContent = image.problem ? `The image could not be read. ${image.problem}` : "";
    $("no-heat").hidden = Boolean(item.heat);
    $("no-heat").textContent = `No heat map: ${item.reason ?? "the run has none of this case"}.`;
    boxes.replaceChildren();
    if (image.width) {
      for (const truth of image.truths) {
        if (String(truth.box) !== String(item.truth_box)) boxes.append(box("other", truth.box, truth.name, image));
      }
      document.querySelector(".key.rival").textContent = item.type === "Miss" ? "box that suppressed it" : "first box on it";
      if (item.rival) boxes.append(box("rival", item.rival.box, `${item.rival.name} ${item.rival.confidence.toFixed(2)}`, image));
      if (item.truth_box) boxes.append(box("truth", item.truth_box, item.truth, image));
      if (item.box) boxes.append(box("prediction", item.box, label, image));
    }
    for (const kind of ["prediction", "truth", "rival", "other"]) {
      document.querySelector(`.key.${kind}`).hidden = !boxes.querySelector(`.${kind}`);
    }
    look();
  }

  function setSource(img, source) {
    if (source) img.src = source;
    else img.removeAttribute("src");
  }

  function box(kind, [x1, y1, x2, y2], label, { width, height }) {
    const made = element("div", `box ${kind}`);
    made.style.left = `${(100 * Math.min(x1, x2)) / width}%`;
    made.style.top = `${(100 * Math.min(y1, y2)) / height}%`;
    made.style.width = `${(100 * Math.abs(x2 - x1)) / width}%`;
    made.style.height = `${(100 * Math.abs(y2 - y1)) / height}%`;
    made.title = label;
    made.classList.toggle("at-top", Math.min(y1, y2) < height * 0.05);
    made.classList.toggle("at-bottom", Math.max(y1, y2) > height * 0.95);
    made.classList.toggle("at-right", Math.min(x1, x2) > width * 0.75);
    if (kind !== "other") made.append(element("span", "", label));
    return made;
  }

  /** Take up the switches below the image: heat and its opacity, boxes, zoom. */
  function look() {
    const heat = $("heat").checked && Boolean(shown?.heat);
    $("heat-map").hidden = !heat;
    $("boxes").hidden = !$("show-boxes").checked;
    $("stage").style.setProperty("--heat", heat ? $("opacity").value / 100 : 0);
    zoom();
  }

  /* The canvas grows about the boxes, so that lines and labels keep their size. */
  function zoom() {
    const { width, height } = images[shown?.image] ?? {};
    const both = [shown?.box, shown?.truth_box].filter(Boolean);
    let [left, top, share] = [0, 0, 1];
    if ($("zoom").checked && width && both.length) {
      const [xs, ys] = [0, 1].map((axis) => both.flatMap((one) => [one[axis], one[axis + 2]]));
      const [x1, x2, y1, y2] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
      share = Math.min(Math.max(((x2 - x1) / width) * AROUND, ((y2 - y1) / height) * AROUND, 24 / width), 1);
      const start = (middle) => Math.min(Math.max(middle - share / 2, 0), 1 - share);
      [left, top] = [start((x1 + x2) / 2 / width), start((y1 + y2) / 2 / height)];
    }
    const style = $("canvas").style;
    style.width = style.height = `${100 / share}%`;
    style.left = `${(-100 * left) / share}%`;
    style.top = `${(-100 * top) / share}%`;
  }

  function compare(item) {
    const side = (value) => (value === undefined ? "-" : value);
    const place = (value) => (value ? `${value.slice(0, 2).map(Math.round).join(", ")}` : "-");
    const size = (value) => (value ? `${Math.round(value[2] - value[0])} x ${Math.round(value[3] - value[1])}` : "-");
    const missed = item.type === "Miss";
    rows($("compare"), [
      ["Class", missed && !item.box ? "-" : item.name, side(item.truth)],
      [missed ? "Raw confidence" : "Confidence", item.confidence?.toFixed(3) ?? "-", ""],
      ["Top left, px", place(item.box), place(item.truth_box)],
      ["Size, px", size(item.box), size(item.truth_box)],
      ["IoU", item.iou?.toFixed(3) ?? "-", ""],
    ]);
  }

  function receipt(item) {
    const given = item.receipt;
    $("receipt").hidden = !given;
    $("receipt-text").textContent = !given
      ? "None was made."
      : `${item.supported ? "Supported" : "Unsupported"}: the hottest ${percent(given.hot_share)} of the image ` +
        `${item.supported ? "matters" : "does not matter"} more for the score than random parts of that size. ` +
        `Without everything outside the box the score drops by ${percent(given.context_dependence)} (context dependence).`;
    if (!given) return;
    const mean = (values) => Object.values(values).reduce((sum, value) => sum + value, 0) / Object.keys(values).length;
    const line = (name, values, random) => [name, ...["blur", "mean"].map((fill) => fixed(values[fill])), fixed(mean(random))];
    rows($("receipt"), [
      ["As it is", fixed(given.score), fixed(given.score), ""],
      line("Without the hottest part", given.removed, given.removed_random),
      line("With it alone", given.kept, given.kept_random),
      line("With the box alone", given.box_only, given.box_random),
    ], "n");
  }

  function rows(table, lines, className = "") {
    table.tBodies[0].replaceChildren(...lines.map(([head, ...cells]) => {
      const row = element("tr");
      row.append(element("th", "", head), ...cells.map((cell) => element("td", className, String(cell))));
      return row;
    }));
  }

  function similar(item, number) {
    const cause = causes[item.cause];
    const others = item.cause ? members.get(item.cause).filter((other) => other !== number) : [];
    $("similar-text").replaceChildren(cause ? `${cause.name}. ${cause.text} ` : "No other case is known to hang on the same kind of patch.");
    if (cause) {
      const link = element("a", "", "All in the gallery");
      link.href = `#/gallery?${new URLSearchParams({ cause: item.cause })}`;
      $("similar-text").append(link);
    }
    $("similar").replaceChildren(...others.slice(0, SIMILAR).map((other) => {
      const link = element("a", "thumb");
      link.href = `#/case?${new URLSearchParams({ id: cases[other].id, cause: item.cause })}`;
      link.title = `${cases[other].type}: ${cases[other].name}`;
      link.setAttribute("aria-label", link.title);
      link.append(Gallery.picture(other));
      return link;
    }));
  }

  function made(item) {
    const facts = {
      Image: images[item.image].name,
      Method: item.method,
      Layers: item.layers?.replaceAll(",", ", "),
      Target: item.target,
      Status: item.reason ? `${item.status}: ${item.reason}` : item.status,
      "Raw prediction (anchor)": item.anchor === undefined ? undefined : `${item.anchor}, stride ${item.stride ?? "-"}`,
      "Heat inside the box": item.evidence_inside === undefined ? undefined : percent(item.evidence_inside),
      Case: item.id,
    };
    const known = Object.entries(facts).filter(([, value]) => value);
    $("made").replaceChildren(...known.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
  }

  /** Show the present case's verdict and note. */
  function verdict() {
    if (!shown) return;
    const entry = Verdicts.get(shown.id);
    for (const button of document.querySelectorAll("[data-verdict]")) {
      button.setAttribute("aria-pressed", button.dataset.verdict === entry.verdict);
    }
    if (document.activeElement !== $("note")) $("note").value = entry.note;
  }

  const fixed = (value) => value?.toFixed(2) ?? "-";
  const percent = (share) => `${(100 * share).toFixed(share && Math.abs(share) < 0.1 ? 1 : 0)}\u00a0%`;

  for (const id of ["heat", "show-boxes", "zoom", "opacity"]) $(id).addEventListener("input", look);
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => Verdicts.set(shown.id, { verdict: button.dataset.verdict || null }));
  }
  $("note").addEventListener("input", () => Verdicts.set(shown.id, { note: $("note").value }));
  document.addEventListener("verdicts", verdict);

  return { show };
})();
