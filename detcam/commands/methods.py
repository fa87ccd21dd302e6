"""``detcam methods``: the methods there are, and what their maps can and cannot say."""

from __future__ import annotations

import json
from typing import TextIO

from rich.console import Console
from rich.table import Table

from detcam.config import MethodsConfig
from detcam.methods import RECOMMENDED, ordered_names, table_row


def methods(config: MethodsConfig, stdout: TextIO) -> int:
    """Print the methods to start with, and the others' names or, where asked, every method.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0.
    """
    names = ordered_names()
    rows = [table_row(name) for name in names]
    if config.json:
        for row in rows:
            stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return 0
    shown = rows if config.all else rows[: len(RECOMMENDED)]
    titles = [title for title in rows[0] if title not in ("paper", "cost")]
    table = Table(*(title.replace("-", "-\n") for title in titles), show_lines=True)
    table.columns[0].min_width = max(len(row["method"]) for row in shown)  # a name is no use where it is cut
    for row in shown:
        table.add_row(*(row[title] for title in titles))
    console = Console(file=stdout)
    console.print(table)
    if not config.all:
        console.print(
            "these are ahead of a Gaussian in the box where it was measured (docs/benchmark.md)", highlight=False
        )
        others = ", ".join(names[len(RECOMMENDED) :])
        console.print(f"others, described by `detcam methods --all`: {others}", highlight=False)
    console.print("papers and costs: `detcam methods --json`, or docs/methods.md", highlight=False)
    return 0
