"""Writes docs/methods.md from the table of methods. Run: python docs/methods_table.py"""

from __future__ import annotations

from pathlib import Path

from detcam.methods import RECOMMENDED, ordered_names, table_row

OUT = Path(__file__).with_name("methods.md")


def table() -> str:
    """The page."""
    rows = [table_row(name) for name in ordered_names()]
    start, others = rows[: len(RECOMMENDED)], rows[len(RECOMMENDED) :]
    return (
        "# Methods\n\nMade by `python docs/methods_table.py`; `detcam methods` prints it. Cost: passes beyond the one\n"
        "that finds the detections, K of them. Detection-specific: two boxes of one class get maps of\n"
        "their own. Methods at the pixels repeat their forward passes for every 16 detections.\n\n"
        "## To start with\n\nWhat beats a Gaussian in the box in a table of [benchmark.md](benchmark.md) that no\n"
        f"method searches for, by intervals that do not meet.\n\n{lines_of(start)}\n"
        "## All others\n\nThey lose to the Gaussian everywhere or are not measured there; each can be asked for.\n\n"
        f"{lines_of(others)}"
    )


def lines_of(rows: list[dict[str, str]]) -> str:
    """Rows as a table."""
    lines = [" | ".join(told.values()) for told in rows]
    return f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}\n" + "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    OUT.write_text(table(), encoding="utf-8")
