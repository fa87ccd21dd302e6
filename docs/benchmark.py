"""Measures the methods on planted causes, real weights and photographs, and writes docs/benchmark.md.

Run: DETCAM_DATA=<folder with weights/, coco/, hog/> python docs/benchmark.py [--limit 60] [--slow-limit 4] [--sets ...]

Methods that a user waits for are measured on many detections of each set; all methods, searches of a thousand forward
passes among them, on few. An interrupted run goes on where it stopped: every set has a run folder under --out, and
planted causes a file. Delete them when the code has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from detcam.cli import main
from detcam.evaluate.summary import FEW_DETECTIONS, RIVALS, UNSEEN_FIGURES

Line = Mapping[str, Any]

PAGE = Path(__file__).with_name("benchmark.md")
QUICK = ["box", "layercam", "guided", "effect"]
SLOW = ["box", "layercam", "occlusion", "drise:600", "dcrisp:600", "phasewin", "vps", "guided", "effect"]
PLANTED = ["effect", "guided", "hirescam", "box"]
PLANTED_THINGS = 100
"""Of each kind of cause."""
SETS = {
    "yolov8n": ("yolov8n.pt", "coco/instances.json", "yolov8n, COCO photographs"),
    "yolo26n": ("yolo26n.pt", "coco/instances.json", "yolo26n (end to end), COCO photographs"),
    "hogdetect": ("hogdetect.pt", "hog/data.yaml", "hogdetect (custom, two classes), animal photographs"),
}
SIDE = 384
BLURRED_STEPS = "ins - del, blur, box areas"
OPTIMISES = {
    "guided": BLURRED_STEPS,
    "vps": BLURRED_STEPS,
    "phasewin": BLURRED_STEPS,
    "effect": "what windows cost, blur or mean fill",
    "occlusion": "deletion, blur, by patches",
}
"""The figure that a method searches for; others search for none, and fills of the first tables are used by none."""
FILLS = {"unseen": "all three", "unseen_inpaint": "painted over", "unseen_shuffle": "shuffled", "unseen_roll": "rolled"}

INTRODUCTION = """# Methods against each other

Made by `DETCAM_DATA=... python docs/benchmark.py`; the tables are written by it alone. Intervals are 95 %, by
bootstrap. Photographs are measured at {side} px, one detection each. Sets that are not below were not measured with
this version: `--sets` names those that are.
"""
PLANTED_TEXT = """## Planted causes

Drawn scenes in which the cause is known: the bundled detectors were trained to have it, and each scene was tested
for it (`detcam evaluate --planted`), a hundred things of each kind. No method can have searched for these figures. The
first six things of `near`, `far` and `part` were looked at once while `effect` was made; all other choices were made on
other scenes.
"""
UNSEEN_TEXT = """## Fills that no method uses

What is removed is painted over from around it, or taken from the image's own shuffled blocks, or from half the image
away. Steps double from 0.25 to 64 % of the image, in cells of a 48th of its longer side; the figure is insertion minus
deletion, the area over the steps' numbers. Leads are paired on the same detections. Enough: the share of the image,
hottest first, that brings back nine tenths of the score, the geometric mean over detections and fills; where 64 % do
not, it counts as the whole image. Measured is the first detection of each photograph; the settings of `effect` were
chosen on the second ones of yolov8n and hogdetect, and none on yolo26n.
"""
OLD_TEXT = """## Blur and mean colour, in steps of the box's area

The tracked score in ten steps up to the box's area. **Some methods search for this very figure**, under this very fill:
the second column says which. Outside: deletion of the pixels outside the box alone, as much as the box's area; lower is
better. Forwards: images passed through the detector for each detection; a backward pass counts as two. Seconds: on a
busy machine, good for comparison alone.
"""
SUSPICION_TEXT = """## What a map should not be

The Gaussian in the box again (correlations over the same cells, near 1); or the same map whatever the weights are: its
rank correlation with the map that the same method makes of the same detection when the parameters of every layer are
shuffled. A map that vanishes then counts as 0. Each detection keeps its anchor, and the Gaussian is in the box that is
predicted there: its own line says how much remains of a map that knows where the anchor is, and nothing else.
"""


def measure(name: str, methods: Sequence[str], limit: int, folder: Path) -> list[Line]:
    """The summary of some methods on detections of a set, best first."""
    data = Path(os.environ["DETCAM_DATA"])
    weights, labels, _ = SETS[name]
    code = main(
        ["evaluate", "--weights", str(data / "weights" / weights), "--imgsz", str(SIDE), "--data", str(data / labels),
         "--methods", ",".join(methods), "--limit", str(limit), "--per-image", "1", "--unseen", "--out", str(folder)]
    )  # fmt: skip
    if code:
        raise SystemExit(f"{folder}: detcam evaluate ended with {code}")
    return pl.read_csv(folder / "summary.csv").to_dicts()


def planted_tables(limit: int, out: Path) -> str:
    """Tables of what ``detcam evaluate --planted`` tells, whatever figures those are: one for each kind of cause."""
    command = ["evaluate", "--planted", "--json", "--methods", ",".join(PLANTED), "--limit", str(limit),
               "--out", str(out)]  # fmt: skip
    known = out / "lines.json"
    kept = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    if kept.get("command") != command:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = main(command)
        if code:
            raise SystemExit(f"detcam evaluate --planted ended with {code}")
        kept = {"command": command, "lines": [json.loads(line) for line in said.getvalue().splitlines()]}
        known.write_text(json.dumps(kept), encoding="utf-8")
    kinds = dict.fromkeys(line.get("kind", "") for line in kept["lines"])
    parts = []
    for kind in kinds:
        lines = [{key: value for key, value in line.items() if key != "kind"} for line in kept["lines"]
                 if line.get("kind", "") == kind]  # fmt: skip
        parts += [f"### {kind}\n"] * bool(kind) + [any_table(lines)]
    return "\n".join(parts)


def any_table(lines: Sequence[Line]) -> str:
    """All figures of some lines; a figure's interval is beside it."""
    keys = list(dict.fromkeys(key for line in lines for key in line))
    keys = [key for key in keys if not key.endswith(("_low", "_high"))]
    headings = [key.replace("_", " ") for key in keys]
    return table(headings, [[cell(line, key, ".2f") for key in keys] for line in lines])


def unseen_table(lines: Sequence[Line]) -> str:
    """Leads over the box and over LayerCAM under the fills that no method uses."""
    pairs = [(rival, figure) for rival in RIVALS for figure in UNSEEN_FIGURES]
    headings = ["method", "ins - del", *(f"on {rival}: {FILLS[figure]}" for rival, figure in pairs), "enough"]
    rows = []
    for line in sorted(lines, key=lambda line: -line["unseen"]):
        leads = ["-" if line["method"] == rival else cell(line, f"{figure}_over_{rival}") for rival, figure in pairs]
        enough = math.prod(line[f"unseen_sufficient_{name}"] for name in ("inpaint", "shuffle", "roll")) ** (1 / 3)
        rows.append([line["method"], cell(line, "unseen"), *leads, f"{enough:.1%}"])
    return table(headings, rows)


def old_table(lines: Sequence[Line]) -> str:
    """Insertion and deletion in steps of the box's area, beside what each method searches for."""
    headings = ["method", "searches for", "ins - del, blur", "lead on the box", "ins - del, mean fill", "deletion",
                "insertion", "outside", "forwards", "seconds"]  # fmt: skip
    rows = [
        [line["method"], OPTIMISES.get(re.split("[@:]", line["method"])[0], "none"),
         *(cell(line, key) for key in ("faithfulness_blur", "lead", "faithfulness_mean")),
         *(cell(line, key, ".3f") for key in ("deletion_blur", "insertion_blur", "outside_blur")),
         cell(line, "forwards", ".0f"), cell(line, "seconds", ".2f")]
        for line in lines
    ]  # fmt: skip
    return table(headings, rows)


def suspicion_table(lines: Sequence[Line]) -> str:
    """What maps should not be: the Gaussian in the box again, and the same whatever the weights are."""
    headings = ["method", "rank correlation with the box", "above 0.9", "correlation with the box",
                "rank correlation with all weights shuffled", "vanished"]  # fmt: skip
    keys = (("box_spearman", ".2f"), ("box_spearman_above", ".0%"), ("box_pearson", ".2f"), ("randomised", ".2f"),
            ("vanished", ".0f"))  # fmt: skip
    return table(headings, [[line["method"], *(cell(line, key, form) for key, form in keys)] for line in lines])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(line: Line, key: str, form: str = "+.3f") -> str:
    """A figure as text, with its interval where it has one; a dash where there is none."""
    value = line.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    low, high = (line.get(f"{key}_{end}") for end in ("low", "high"))
    spread = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    return f"{value:{form}}{spread}"


def sections(make: Callable[[Sequence[Line]], str], measured: Mapping[str, Sequence[Line]]) -> str:
    """A table for each set, under its name."""
    parts = []
    for name, lines in measured.items():
        count = max(line["detections"] for line in lines)
        few = f" (fewer than {FEW_DETECTIONS}: the intervals are too narrow)" if count < FEW_DETECTIONS else ""
        parts.append(f"### {SETS[name][2]}: {count} detections{few}\n\n{make(lines)}")
    return "\n".join(parts)


def page(planted: str, quick: Mapping[str, Sequence[Line]], slow: Mapping[str, Sequence[Line]]) -> str:
    """The whole page."""
    parts = [
        INTRODUCTION.format(side=SIDE), PLANTED_TEXT, planted, UNSEEN_TEXT, sections(unseen_table, quick), OLD_TEXT,
        sections(old_table, quick), SUSPICION_TEXT, sections(suspicion_table, quick),
    ]  # fmt: skip
    if slow:
        parts += ["## Slow methods, few detections\n", sections(unseen_table, slow), sections(old_table, slow)]
    if asked := [line["judge_forwards"] for lines in quick.values() for line in lines]:
        parts.append(f"Judging one map took {max(asked):.0f} forward passes.\n")
    return "\n".join(parts)


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="run folders")
    parser.add_argument("--page", type=Path, default=PAGE, help="what is written")
    parser.add_argument("--limit", type=int, default=60, help="detections of each set")
    parser.add_argument("--slow-limit", type=int, default=4, help="detections of each set for all methods; 0: none")
    parser.add_argument("--sets", default=",".join(SETS), help="separated by commas; empty: planted causes alone")
    asked = parser.parse_args()
    asked.sets = [name for name in asked.sets.split(",") if name]
    if unknown := sorted(set(asked.sets) - set(SETS)):
        parser.error(f"no set {unknown[0]!r}; there are {', '.join(SETS)}")
    return asked


if __name__ == "__main__":
    asked = options()
    planted = planted_tables(PLANTED_THINGS, asked.out / "planted")
    quick = {name: measure(name, QUICK, asked.limit, asked.out / f"{name}-quick") for name in asked.sets}
    slow_sets = asked.sets if asked.slow_limit else []
    slow = {name: measure(name, SLOW, asked.slow_limit, asked.out / f"{name}-slow") for name in slow_sets}
    asked.page.write_text(page(planted, quick, slow), encoding="utf-8")
