"""A review's run folder -> ``report/``: pictures, the cases as a script, and one page that opens from disk.

::

    report/index.html, data.js, report.css, *.js
    report/pictures/images/N.jpg, thumbs/N.jpg, heat/N.png, causes/N-M.png    no name of the user's names a file
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detcam.errors import InputError, UsageError
from detcam.io.documents import parse_json
from detcam.io.files import write_whole
from detcam.report.pictures import CasePicture, DrawnImage, draw_image, write_patch
from detcam.report.place import DATA, fresh_pictures, prepare, put_in_place
from detcam.runs.own_files import own_file
from detcam.runs.reading import open_run
from detcam.runs.verdicts import VERDICTS

Row = dict[str, Any]

REPORT_FOLDER = Path(__file__).parent
STATIC = ("report.css", "theme.js", "verdicts.js", "gallery.js", "detail.js", "app.js")
TYPES = {
    "Cls": "right place, wrong class",
    "Loc": "right class, badly placed box",
    "Both": "wrong class and badly placed",
    "Dupe": "second box on an object already found",
    "Bkg": "no labelled object there",
    "Miss": "labelled object without a detection",
}
MISS_REASONS = {
    "never_fired": "No raw prediction over it gave its class a score that counts.",
    "below_threshold": "A raw prediction gave its class a score below the confidence threshold.",
    "suppressed": "Its prediction was suppressed by another box.",
    "other_class": "Its prediction was reported as another class.",
}
CASE_COLUMNS = (
    "id", "confidence", "iou", "anchor", "stride", "method", "layers", "target", "status", "reason",
    "supported", "explanation", "cause", "context_dependence", "evidence_inside",
)  # fmt: skip
"""Columns of a row that a case has unchanged."""
CONTEXT_BINS = 10
CASES_PER_CAUSE = 12
"""Cases shown of each cause at most."""
PATCHES_PER_CAUSE = 12
"""Patches likewise."""


@dataclass(frozen=True)
class Review:
    """What the run folder of a review holds.

    Attributes:
        name: of the folder.
        description: ``run.json``.
        summary: ``summary.json``.
        causes: ``causes.json``.
        verdicts: ``verdicts.json``, by id.
        detections, truths, misses: rows of the tables.
        missing: what an interrupted review has not come to, in a sentence; empty of a finished one.
        problems: what is broken and left out, a sentence each.
    """

    name: str
    description: Row
    summary: Row
    causes: list[Row]
    verdicts: dict[str, Row]
    detections: list[Row]
    truths: list[Row]
    misses: list[Row]
    missing: str = ""
    problems: tuple[str, ...] = ()


def build_report(run: Path) -> Path:
    """Write the report of a review into its run folder; what an earlier build left is replaced.

    An image that cannot be read gets a placeholder; the overview names it, and the log how many there are. Of a review
    that was interrupted the page shows what there is, and says what is missing, as the log does.

    Args:
        run: the run folder of ``detcam review``.

    Returns:
        The path of ``report/index.html``.

    Raises:
        UsageError: not the run folder of a review, one that was interrupted before its errors were known, or a file
            without which there is nothing to show is missing or broken; in the report's place is something else, or it
            cannot be written. Of other files and of rows that are broken the page and the log tell, and the rest is
            shown.
    """
    review = read_review(run)
    try:
        return _build(run, review)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or run / 'report'}: {error.strerror or error}") from error


def _build(run: Path, review: Review) -> Path:
    out = prepare(run, ("index.html", DATA, *STATIC))
    cases, by_image = make_cases(review)
    drawn, patches, lost = _draw(run, out, by_image, review.causes)
    review = replace(review, problems=(*review.problems, *lost))
    for words in (review.missing, *review.problems):
        if words:
            logging.getLogger(__name__).warning("%s", words)
    for number in frozenset[int]().union(*(image.heats for image in drawn)):
        cases[number]["heat"] = True
    images = _images(review, list(by_image), drawn)
    data = {
        "run": run_key(review.description),
        "images": images,
        "cases": cases,
        "causes": {cause["id"]: {"name": cause["name"], "text": cause["text"]} for cause in review.causes},
        "kinds": VERDICTS,
        "verdicts": review.verdicts,
    }
    write_whole(out / DATA, lambda file: file.write(as_script(data).encode("ascii")))
    for name in STATIC:
        content = (REPORT_FOLDER / "static" / name).read_bytes()
        write_whole(out / name, lambda file, content=content: file.write(content))
    html = _render(review, images, cases, patches)
    write_whole(out / "index.html", lambda file: file.write(html.encode("utf-8", "backslashreplace")))
    if problems := [image["problem"] for image in images if "problem" in image]:
        warn = logging.getLogger(__name__).warning
        warn("%d of %d images cannot be shown: %s", len(problems), len(images), problems[0])
    return out / "index.html"


def read_review(run: Path) -> Review:
    """The files of a review's run folder; of causes, verdicts and rows that are broken, what is wrong with them.

    Raises:
        UsageError: not the run folder of a review, or its ``run.json``, ``summary.json`` or a table is missing or
            broken.
    """
    opened = open_run(run)
    if opened.info["command"] != "review":
        raise UsageError(f"{run} holds a run of detcam {opened.info['command']:.80}; a report is made of a review's")
    tables, problems = {}, list[str]()
    for name in ("detections", "truths", "misses"):
        table, broken = opened.usable(name)
        tables[name] = table.to_dicts()
        problems += broken
    name, description, summary = run.resolve().name, {"configuration": {}, **opened.info}, opened.summary()
    tested = (run / "causes.json").is_file()
    missing = _missing(description, summary, tested)
    causes: list[Row] = []
    verdicts: dict[str, Row] = {}
    try:
        causes = [] if missing and not tested else opened.causes()
    except UsageError as error:
        problems.append(str(error))
    try:
        verdicts = opened.verdicts()
    except UsageError as error:
        problems.append(str(error))
    rows = (tables["detections"], tables["truths"], tables["misses"])
    return Review(name, description, summary, causes, verdicts, *rows, missing, tuple(problems))


def _missing(description: Row, summary: Row, tested: bool) -> str:
    """What an interrupted review has not come to; empty where it came to its causes."""
    if description.get("state", "finished") == "finished" or tested:
        return ""
    done, total = description.get("counts", {}).get("images", 0), summary["images"]
    explained = f"the errors of {done} of {total} images are explained" if done < total else "all errors are explained"
    return (
        f"this review was interrupted: {explained}, and no causes are tested; the same detcam review command goes on "
        "with it"
    )


def run_key(description: Row) -> str:
    """What keeps the verdicts of one run apart from another's in the browser: equal for equal configurations."""
    same = {key: description.get(key) for key in ("configuration", "weights")}
    return hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:16]


def make_cases(review: Review) -> tuple[list[Row], dict[str, list[CasePicture]]]:
    """Every error and miss as the page needs it, and for each image what to draw of its cases.

    Boxes are xyxy in original pixels: ``box`` the prediction's, ``truth_box`` the truth's, ``rival`` the box that
    claimed
    the truth or suppressed the prediction. Unknown values are left out.

    Args:
        review: the run folder's contents.

    Returns:
        The cases; and by image's name the pictures of its cases.
    """
    detections = {row["id"]: row for row in review.detections}
    truths = {row["id"]: row for row in review.truths}
    errors = [row for row in review.detections if row["error_type"] in TYPES and row["error_type"] != "Miss"]
    numbers = {image: n for n, image in enumerate(sorted({row["image"] for row in (*errors, *review.misses)}))}
    cases: list[Row] = []
    by_image: dict[str, list[CasePicture]] = {image: [] for image in numbers}
    for missed, row in [*((False, row) for row in errors), *((True, row) for row in review.misses)]:
        truth = truths.get(row["truth_id"])
        if missed:
            box, truth_box, rival = _box(row, "raw_"), _box(row), detections.get(row["suppressor"])
        else:
            box, truth_box = _box(row), _box(truth)
            rival = detections.get(truth["found_by"]) if truth and row["error_type"] == "Dupe" else None
        case = {name: row.get(name) for name in CASE_COLUMNS} | {
            "type": "Miss" if missed else row["error_type"],
            "image": numbers[row["image"]],
            "name": row["class_name"],
            "truth": row["class_name"] if missed else row["truth_class"],
            "box": box,
            "truth_box": truth_box,
            "rival": rival and {"box": _box(rival), "name": rival["class_name"], "confidence": rival["confidence"]},
            "receipt": parse_json(row["receipt"]) if row.get("receipt") else None,
        }
        if missed:
            case |= {
                "confidence": row["raw_confidence"],
                "died": MISS_REASONS.get(row["where_it_died"], row["where_it_died"]),
            }
        shot = CasePicture(len(cases), box, truth_box, row["heatmap"], row.get("letterbox"))
        by_image[row["image"]].append(shot)
        cases.append({name: value for name, value in case.items() if value not in (None, "")})
    return cases, by_image


def as_script(data: object) -> str:
    """Data as ASCII JavaScript that no element, comment or line separator can end early.

    Args:
        data: of mappings, lists and what JSON has.
    """
    text = json.dumps(_plain(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"window.DETCAM = {text.replace('<', chr(92) + 'u003c')};\n"


def context_figures(cases: Sequence[Row]) -> Row:
    """How much errors depend on what is around their boxes: counts by tenth, and the median of each type.

    Args:
        cases: from :func:`make_cases`.
    """
    measured = [case for case in cases if "context_dependence" in case]
    bins = [0] * CONTEXT_BINS
    for case in measured:
        bins[min(max(math.floor(case["context_dependence"] * CONTEXT_BINS), 0), CONTEXT_BINS - 1)] += 1
    types = []
    for name in TYPES:
        if shares := [case["context_dependence"] for case in measured if case["type"] == name]:
            high = sum(share > 0.5 for share in shares) / len(shares)
            types.append({"type": name, "count": len(shares), "median": median(shares), "high": high})
    return {"bins": bins, "types": types, "count": len(measured)}


def _draw(
    run: Path, out: Path, by_image: dict[str, list[CasePicture]], causes: list[Row]
) -> tuple[list[DrawnImage], Row, list[str]]:
    """Draw everything into a new folder and put it in the old one's place; the patches by their cause's id."""
    fresh = fresh_pictures(out)

    def draw(job: tuple[int, tuple[str, list[CasePicture]]]) -> DrawnImage:
        number, (source, shots) = job
        return draw_image(run / "heatmaps", fresh, number, source, shots)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        drawn = list(pool.map(draw, enumerate(by_image.items())))
    patches: Row = {}
    problems = [image.lost for image in drawn if image.lost]
    if len(problems) > 1:
        problems = [f"the maps of {len(problems)} images are not shown: {problems[0]}"]
    for number, cause in enumerate(causes):
        shown = patches.setdefault(cause["id"], [])
        for k, source in enumerate(cause["patches"][:PATCHES_PER_CAUSE]):
            try:
                write_patch(own_file(run, source), fresh / "causes" / f"{number}-{k}.png")
            except (InputError, UsageError) as error:
                problems.append(f"a patch of cause {cause['id'][:80]!r} is not shown: {error}")
            else:
                shown.append(f"{number}-{k}.png")
    put_in_place(out, fresh)
    return drawn, patches, problems


def _images(review: Review, sources: list[str], drawn: list[DrawnImage]) -> list[Row]:
    """The cases' images: ``name`` below the folder they share, size, all truths, and ``problem`` where unreadable."""
    try:
        shared = os.path.commonpath([os.path.dirname(source) for source in sources])  # noqa: PTH120
    except ValueError:  # none, or absolute and relative ones
        shared = ""
    images: dict[str, Row] = {}
    for source, picture in zip(sources, drawn, strict=True):
        name = os.path.relpath(source, shared) if shared else source
        images[source] = {"name": name, "width": picture.width, "height": picture.height, "truths": []}
        if picture.problem:
            images[source]["problem"] = picture.problem
    for truth in review.truths:
        if truth["image"] in images:
            name = f"{truth['class_name']} (crowd)" if truth["crowd"] else truth["class_name"]
            images[truth["image"]]["truths"].append({"box": _box(truth), "name": name})
    return list(images.values())


def _render(review: Review, images: list[Row], cases: list[Row], patches: Row) -> str:
    numbers = {case["id"]: number for number, case in enumerate(cases) if "problem" not in images[case["image"]]}
    causes = []
    for cause in review.causes:
        shown = [member for member in cause["members"] if member in numbers][:CASES_PER_CAUSE]
        pictured = [cases[numbers[member]] | {"number": numbers[member]} for member in shown]
        causes.append(cause | {"pictures": patches[cause["id"]], "shown": pictured})
    counts = dict.fromkeys(("TP", *TYPES), 0) | review.summary["counts"]
    environment = Environment(
        loader=FileSystemLoader(REPORT_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("index.html.jinja").render(
        review=review,
        summary=review.summary,
        counts=counts,
        errors=sum(counts[name] for name in TYPES),
        types=TYPES,
        kinds=VERDICTS,
        context=context_figures(cases),
        causes=causes,
        found={name: sum(case["type"] == name for case in cases) for name in TYPES},
        names=sorted({case["name"] for case in cases}),
        truths=sorted({case["truth"] for case in cases if "truth" in case}),
        unread=[image for image in images if "problem" in image],
        broken=review.problems,
    )


def _box(row: Row | None, prefix: str = "") -> list[float] | None:
    if row is None or row.get(f"{prefix}x1") is None:
        return None
    return [float(row[prefix + side]) for side in ("x1", "y1", "x2", "y2")]


def _plain(value: Any) -> Any:
    """Values that JSON has: numbers to five digits, null for what is not finite."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
