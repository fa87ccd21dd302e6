"""What a command says while it works: its progress, and the inputs that failed."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def complain(console: Console, source: object, reason: str) -> None:
    """One red line about one input."""
    console.print(f"detcam: {source}: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.2f} images/s")


def progress_bar(console: Console) -> Progress:
    """Images done, the rate, and the time that is left; silent where nobody watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    )
