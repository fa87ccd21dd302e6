"""The page of an evaluation: one file that opens from disk, without a network and without scripts."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from detcam.alone import alone
from detcam.errors import UsageError
from detcam.evaluate.charts import charts
from detcam.evaluate.examples import MOST_MAPS, examples
from detcam.evaluate.summary import MAIN_FIGURE, REFERENCE, is_baseline, standing, verdict
from detcam.io.files import write_whole
from detcam.methods import METHODS
from detcam.runs.reading import open_run

with alone():  # else matplotlib asks other programs for their fonts
    from matplotlib.figure import Figure


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        key: the figure's name in the summary.
        heading: of the column.
        form: how it is written: ``interval``, ``signed``, ``share``, ``count`` or ``plain``.
        meaning: one or two sentences.
    """

    key: str
    heading: str
    form: str
    meaning: str


PLAUSIBLE = "Plausible: where a person would look"
GROUPS: dict[str, list[Column]] = {
    "Faithful: what the detector needs": [
        Column(MAIN_FIGURE, "insertion - deletion", "interval",
            "The area between the two curves below, what is removed being blurred. About -1 to 1, higher is better."),
        Column("lead", "lead on the box", "interval",
            "The mean difference to a Gaussian in the box on the same detections. An interval above zero: the method "
            "tells more than where the box is."),
        Column("faithfulness_mean", "mean fill", "interval",
            "The same with the image's mean colour in place of the blur. A method that wins under one fill alone "
            "may be reading the fill."),
        Column("faithfulness_anchor_blur", "fixed anchor", "interval",
            "The same for the class score at the detection's own anchor, whatever another anchor makes of the object."),
        Column("deletion_blur", "deletion", "signed", "Area under the deletion curve. Lower is better."),
        Column("insertion_blur", "insertion", "signed", "Area under the insertion curve. Higher is better."),
        Column("outside_blur", "outside", "signed",
            "Area under the deletion curve of the pixels outside the box alone. Lower: the map knows what context "
            "counts."),
        Column("sufficient_blur", "sufficient", "share",
            "The share of the box's area, hottest pixels first, that brings back nine tenths of the score, where any "
            "does."),
    ],
    "Judged under fills that no method uses": [
        Column("unseen", "unseen fills", "interval",
            "Insertion minus deletion where what is removed is painted over from around it, or taken from elsewhere in "
            "the image (shuffled blocks, or half the image away): the mean of the three. Steps double from 0.25 to "
            "64 % of the image."),
        Column("unseen_over_box", "lead on the box", "interval", "The mean difference to the Gaussian in the box."),
        Column("unseen_over_layercam", "lead on layercam", "interval", "The mean difference to LayerCAM."),
        Column("unseen_inpaint", "painted over", "interval", "The same figure, what is removed painted over alone."),
        Column("unseen_shuffle", "shuffled", "interval", "Under the image's own blocks in another order."),
        Column("unseen_roll", "rolled", "interval", "Under the image half its height and width away."),
    ],
    PLAUSIBLE: [
        Column("box_spearman", "like the box", "signed",
            "Rank correlation with the Gaussian in the box. A map close to 1 tells where the box is, and no more."),
        Column("box_spearman_above", "above 0.9", "share", "How often it is above 0.9."),
        Column("pointing_box", "pointing", "share", "How often the hottest pixel is in the box."),
        Column("energy_box", "in the box", "share", "The share of the map's mass in the box."),
        Column("energy_mask", "in the mask", "share", "The share of it in the labelled object's mask."),
        Column("discrimination", "on others", "share",
            "Of the mass on objects, the share on other objects. Lower is better."),
        Column("compactness", "spread", "plain", "How far the mass is spread, in box sizes. Smaller is tighter."),
    ],
    "Sanity: what the map depends on": [
        Column("randomised_10%", "10 % shuffled", "signed",
            "Rank correlation with the map of a detector whose last tenth of layers is shuffled. Lower is better; so "
            "for the next three."),
        Column("randomised_30%", "30 %", "signed", "With 30 % of the layers shuffled."),
        Column("randomised_60%", "60 %", "signed", "With 60 % of the layers shuffled."),
        Column("randomised_100%", "all", "signed", "With every layer shuffled."),
        Column("randomised", "all, every map", "interval",
            "The same for every measured map, at the image's cells; a map that vanishes counts as 0."),
        Column("vanished", "vanished", "count", "How many maps were nothing with every layer shuffled."),
        Column("class_swap", "class swap", "signed",
            "Rank correlation with the map of another class at the same anchor. Lower is better."),
        Column("instance_swap", "instance swap", "signed",
            "Rank correlation between two objects of one class in one image. Lower is better."),
        Column("max_sensitivity", "sensitivity", "plain",
            "The largest relative change of the map under a little noise. Smaller is steadier."),
    ],
    "Cost": [
        Column("forwards", "forwards", "count",
            "Forward passes for each detection, a backward pass counted as two."),
        Column("seconds", "seconds", "plain", "Seconds for each detection on the machine that measured."),
        Column("no_signal", "no signal", "count", "Detections for which the method made no map."),
    ],
}  # fmt: skip
"""The table's columns; one that no method has a figure for is left out."""

PICTURES = {
    "ranking": ("Every method",
        "Mean insertion minus deletion, and the lead on the box, with 95 % intervals. Blue: above the box. Grey: not "
        "told apart from it. Orange: below it. Diamonds: baselines that know nothing of the detector."),
    "curves": ("The curves behind the figures",
        "The detector's score while the hottest pixels are blurred (left: a faithful map falls at once) or are all "
        "that is sharp (right: it rises at once). The three best methods, the box and noise, with 95 % bands; the "
        "others are grey."),
    "cost": ("What quality costs",
        "The band joins the methods that nothing cheaper equals; their names are bold."),
    "strata": ("Where a method is good",
        "The same figure by the box's size in network pixels (small: below 32, large: from 96) and by confidence "
        "(sure: from 0.5), with the number of detections."),
}  # fmt: skip
"""Titles and captions of the charts."""


def write_page(out: Path) -> Path:
    """Write ``evaluation.html`` and the charts as PNG from an evaluation's folder; returns the page's path.

    Args:
        out: the folder, with ``run.json``, ``summary.csv``, ``evaluation.parquet`` and, where sanity was checked,
            ``sanity.csv``.

    Raises:
        UsageError: the folder holds no evaluation that is whole.
    """
    try:
        opened = open_run(out)
        run, table = dict(opened.info), opened.table("evaluation")
        lines = _with_nan(opened.table("summary").to_dicts())
        sanity = _with_nan(opened.table("sanity").to_dicts()) if opened.has("sanity") else []
    except (OSError, ValueError) as error:
        raise UsageError(f"{out} holds no evaluation that can be read: {error}; run detcam evaluate first") from error
    _require_figures(out, table, lines)
    checked = {row["method"]: row for row in sanity}
    lines = [{**checked.get(line["method"], {}), **line} for line in lines]
    pictures = {}
    for name, figure in charts(table, lines).items():
        write_whole(
            out / f"{name}.png",
            lambda file, figure=figure: figure.savefig(file, dpi=120, facecolor="white", format="png"),
        )
        pictures[name] = (*PICTURES[name], _uri(_svg(figure), "image/svg+xml"))
    groups = {
        title: [column for column in columns if any(_known(line.get(column.key)) for line in lines)]
        for title, columns in GROUPS.items()
    }
    environment = Environment(
        loader=PackageLoader("detcam.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"jpeg": lambda data: _uri(data, "image/jpeg"), "csp": _csp}
    text = environment.get_template("evaluation.html.jinja").render(
        facts=_facts(run, table, lines),
        verdict=verdict(table, lines),
        groups={title: columns for title, columns in groups.items() if columns},
        lines=lines,
        cell=_cell,
        standing=standing,
        is_baseline=is_baseline,
        plausible=PLAUSIBLE,
        pictures=pictures,
        examples=list(examples(table, lines)),
        most_maps=MOST_MAPS,
        methods={line["method"]: METHODS.get(re.split("[@:]", line["method"])[0]) for line in lines},
    )
    write_whole(out / "evaluation.html", lambda file: file.write(text.encode("utf-8", "replace")))
    return out / "evaluation.html"


def _require_figures(out: Path, table: pl.DataFrame, lines: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tables that no evaluation wrote.

    Raises:
        UsageError: a column is missing, or holds something else.
    """
    texts, numbers = ("image", "method", "class_name", "size", "status"), ("detection", "confidence", MAIN_FIGURE)
    for column in (*texts, *numbers, "curve_deletion_blur", "curve_insertion_blur"):
        kind = table.schema.get(column)
        right = kind is not None and (kind == pl.String if column in texts else kind.is_numeric() or kind.is_nested())
        if not right or table[column].null_count():
            raise UsageError(f"{out / 'evaluation.parquet'} is damaged: its column {column!r} holds {kind}")
    figures = ("detections", "lead", "lead_low", "lead_high", "forwards", "seconds")
    for line in lines:
        wrong = next((key for key, value in line.items() if isinstance(value, str) != (key == "method")), None)
        missing = next((key for key in ("method", MAIN_FIGURE, *figures) if key not in line), None)
        if wrong or missing or not isinstance(line["detections"], int):
            raise UsageError(f"{out / 'summary.csv'} is damaged: its column {wrong or missing or 'detections'!r}")
    if not lines or set(table["method"]) != {line["method"] for line in lines}:
        raise UsageError(f"{out / 'summary.csv'} and evaluation.parquet are of different methods")


def _facts(run: Mapping[str, Any], table: pl.DataFrame, lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What was measured, by what it is called."""
    configuration = run.get("configuration", {})
    detections = table.unique(["image", "detection"])
    images = detections["image"].n_unique()
    facts = {
        "Weights": " ".join(
            str(part) for part in (configuration.get("weights"), _short(configuration.get("sha256"))) if part
        ),
        "Data": " ".join(str(part) for part in (configuration.get("data"), configuration.get("split")) if part),
        "Measured": f"{len(lines)} methods on {len(detections)} detections in {images} images",
        "Sizes": ", ".join(
            f"{count} {size}"
            for size in ("small", "medium", "large")
            if (count := detections["size"].to_list().count(size))
        ),
        "Network input": f"{size} pixels" if (size := configuration.get("imgsz")) else "the weights' own",
        "Chosen": ", ".join(
            f"{words} {configuration[key]}"
            for key, words in (("conf", "confidence from"), ("per_image", "of one image at most"), ("seed", "seed"))
            if key in configuration
        ),
        "Versions": ", ".join(f"{name} {number}" for name, number in run.get("versions", {}).items()),
    }
    return {name: text for name, text in facts.items() if text}


def _short(digest: str | None) -> str:
    return f"(SHA-256 {digest[:12]})" if digest else ""


def _cell(line: Mapping[str, Any], column: Column) -> tuple[str, str]:
    """A figure as text, and its interval's; a dash where there is none."""
    value = line.get(column.key)
    if not _known(value) or (column.key == "lead" and line["method"] == REFERENCE):
        return "-", ""
    forms = {"interval": "+.3f", "signed": ".3f", "share": ".0%", "count": ",.0f", "plain": ".2f"}
    spread = ""
    if column.form == "interval":
        spread = f"{line[f'{column.key}_low']:+.2f} .. {line[f'{column.key}_high']:+.2f}"
    return f"{value:{forms[column.form]}}", spread


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _with_nan(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with nan where a file says that there is no figure."""
    return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]


def _svg(figure: Figure) -> bytes:
    """A chart with text as outlines, so that no name is markup and no font is missing; the same at every call."""
    data = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "detcam"}):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    return data.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _csp(css: str) -> str:
    """A policy for a page that has this style sheet and embedded pictures, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
