"""CSV tables that a spreadsheet can open safely."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from detcam.export.run import JudgedRun


def write_csv(run: JudgedRun, out: Path) -> str:
    """Write ``detections.csv`` and, of a review, ``misses.csv``: the run's columns with verdicts and notes.

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.

    Returns:
        What was written, in a sentence.
    """
    write_table(run.detections, out / "detections.csv")
    if run.misses is None:
        return f"{len(run.detections)} detections -> {out}"
    write_table(run.misses, out / "misses.csv")
    return f"{len(run.detections)} detections and {len(run.misses)} misses -> {out}"


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as UTF-8 CSV: null is an empty cell, empty text is ``""``; columns of lists have no place in it.

    A spreadsheet runs text that starts like a formula. So a text cell that starts with ``=``, ``+``, ``-``, ``@`` (or
    their full-width forms), a tab, a line break or an apostrophe gets one apostrophe in front; taking one apostrophe
    off every text cell that starts with one gives back what was there. Numbers stay numbers.

    Args:
        table: its columns of lists are left out.
        path: of the file, replaced.
    """
    safe = pl.col(pl.String).str.replace(r"^([=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}\t\r\n'])", "'$1")
    flat = [name for name, kind in table.schema.items() if not kind.is_nested()]
    table.select(flat).with_columns(safe).write_csv(path)
