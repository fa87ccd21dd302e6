"""What a command says while it works: a progress bar on a terminal, and log records, which the command line shows."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from detcam.errors import one_line

logger = logging.getLogger("detcam")
LOG_INTERVAL_S = 60.0
"""Time between two log lines about progress, without a terminal."""


def complain(source: object, reason: str) -> None:
    """Log a warning about one input.

    Args:
        source: the input.
        reason: what is wrong with it.
    """
    logger.warning("%s", one_line(f"{source}: {reason}"))


class Lines(logging.Handler):
    """Log records as lines on stderr, above the progress bar: warnings red, none of them wrapped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record.

        Args:
            record: of the logger ``detcam``.
        """
        prefix, style = ("detcam: ", "red") if record.levelno >= logging.WARNING else ("", None)
        text = prefix + self.format(record)
        Console(stderr=True).print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shown_log() -> Iterator[None]:
    """Show what detcam logs while a command runs; logging is left as it was."""
    handler, level = Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Rate(ProgressColumn):
    """Images a second, and how many failed."""

    def render(self, task: Task) -> Text:
        failed = task.fields.get("failed", 0)
        return Text(_pace(task) + (f", {failed} failed" if failed else ""))


class _LoggedProgress(Progress):
    """A bar, or, without a terminal, a line in the log once a minute."""

    _last = 0.0

    def start(self) -> None:
        super().start()
        self._last = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._log(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._log(task_id)

    def _log(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if self.disable and now - self._last >= LOG_INTERVAL_S:
            self._last = now
            logger.info("%s", _line(self._tasks[task_id]))


def _pace(task: Task) -> str:
    """``1.60 images/s``, or where that is slow ``12 s an image``."""
    speed = _speed(task)
    return f"{speed:.2f} images/s" if speed >= 0.5 or not speed else f"{1 / speed:.0f} s an image"


def _line(task: Task) -> str:
    """``explaining: 1200/10000 in 0:12:30, 1.60 images/s, 1:31:40 left, 2 failed``."""
    total = "" if task.total is None else f"/{task.total:.0f}"
    parts = [f"{task.description}: {task.completed:.0f}{total} in {timedelta(seconds=int(task.elapsed or 0))}"]
    parts.append(_pace(task))
    if task.time_remaining is not None:
        parts.append(f"{timedelta(seconds=int(task.time_remaining))} left")
    if failed := task.fields.get("failed"):
        parts.append(f"{failed} failed")
    return ", ".join(parts)


def _speed(task: Task) -> float:
    """Images a second: lately, or, where the last one is longer ago than rich remembers, since the start."""
    lately = task.finished_speed or task.speed
    return lately or (task.completed / task.elapsed if task.elapsed else 0.0)


def progress_bar() -> Progress:
    """Images done, the rate, how many failed, and the time that is left, on stderr; without a terminal, in the log."""
    return _LoggedProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def show_steps(progress: Progress) -> Callable[[str, int, int | None], None]:
    """A function that shows how far each step of some work is.

    Args:
        progress: the bar that gets a line for each step.

    Returns:
        Called with a step's name, how much is done, and how much there is or None.
    """
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int | None) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step, total=total)
        progress.update(tasks[step], completed=done)

    return show
