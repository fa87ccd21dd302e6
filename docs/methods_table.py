"""Writes docs/methods.md from the table of methods. Run: python docs/methods_table.py"""

from __future__ import annotations

from pathlib import Path

from detcam.methods import METHODS, table_row

OUT = Path(__file__).with_name("methods.md")


def table() -> str:
    """The page."""
    rows = [table_row(name) for name in METHODS]
    head = " | ".join(rows[0])
    lines = [" | ".join(told.values()) for told in rows]
    return (
        "# Methods\n\nMade by `python docs/methods_table.py`; `detcam methods` prints it. Cost: passes beyond the one\n"
        "that finds the detections, K of them. Detection-specific: two boxes of one class get maps of\n"
        "their own. Methods at the pixels repeat their forward passes for every 16 detections.\n\n"
        f"| {head} |\n|{'---|' * len(rows[0])}\n" + "".join(f"| {line} |\n" for line in lines)
    )


if __name__ == "__main__":
    OUT.write_text(table(), encoding="utf-8")
