"""Try inputs one after another, and say which were answered wrongly: the same question for every family."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detcam.cli import main
from detcam.errors import DetcamError
from hostile.watching import changed, files_below, process_state, watched

SECONDS = 20.0
"""How long one answer may take: some fifty times what the slowest right one takes on a quiet machine."""
MEBIBYTES = 1024
"""How much more memory one answer may take at its peak than the process had before."""
LONGEST_LINE = 2000
"""Characters of an error: beyond that it is not a line but a dump."""


@dataclass(frozen=True)
class Input:
    """Something a stranger may hand us.

    Attributes:
        name: what is wrong with it, in words.
        make: writes it below a folder (whose ``input`` and whatever else lies there must not change), and returns what
            is asked about.
        accepted: True where it has to be taken, False where it has to be refused, None where either is right.
    """

    name: str
    make: Callable[[Path], Any]
    accepted: bool | None = None


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        code: its exit code.
        stdout, stderr: what it wrote.
    """

    code: int
    stdout: str
    stderr: str


class TooLongError(BaseException):
    """An answer was not there in time; no handler of the code under test takes it for an error."""


def run_command(*arguments: str) -> Answer:
    """Run one command in this process.

    Args:
        arguments: the command and its options.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Answer(code, out.getvalue(), err.getvalue())


def try_inputs(
    family: str,
    inputs: Iterable[Input],
    ask: Callable[[Any, Path], Any],
    *,
    folder: Path,
    record: Callable[[str, object], None],
    codes: tuple[int, ...] = (0, 1, 2, 3),
    errors: tuple[type[Exception], ...] = (DetcamError,),
    seconds: float = SECONDS,
    mebibytes: int = MEBIBYTES,
    writes: tuple[Path, ...] = (),
    reaches: tuple[object, ...] = (),
) -> None:
    """Ask about every input, and fail with the list of those that were answered wrongly.

    An answer is right if it comes in time and in the memory allowed, is either a result or one line of an error that
    detcam raises on purpose, and leaves the process, the files beside the output, the network and other processes
    alone.

    Args:
        family: what the summary counts it under.
        inputs: each has a folder of its own.
        ask: given what ``make`` returned and a folder for output, which does not exist yet. It raises an error of
            ``errors``, or returns an :class:`Answer` or anything else; it asserts whatever has to be true of a result.
        folder: where all of this is written.
        record: pytest's ``record_property``.
        codes: exit codes that are right for an :class:`Answer`.
        errors: what may be raised.
        seconds: see :data:`SECONDS`.
        mebibytes: see :data:`MEBIBYTES`.
        writes: files and folders that may be written besides the output.
        reaches: addresses that may be connected to.
    """
    tried, wrong = 0, []
    for number, item in enumerate(inputs):
        place = folder / f"{number}"
        (place / "input").mkdir(parents=True)
        (place / "bystander.txt").write_text("not to be touched")
        tried += 1
        why = _judged(item, place, ask, codes, errors, seconds, mebibytes, writes, reaches)
        if why:
            wrong.append(f"{item.name}: {why}")
        _make_removable(place)
        shutil.rmtree(place, ignore_errors=True)
    record("hostile", [family, tried, len(wrong)])
    assert tried
    assert not wrong, f"{len(wrong)} of {tried} wrong:\n" + "\n".join(wrong)


def _judged(item, place, ask, codes, errors, seconds, mebibytes, writes, reaches) -> str:
    """Why the answer to one input is wrong; empty where it is right."""
    made = item.make(place / "input")
    out = place / "out"
    files, state = files_below(place, but=out), process_state()
    _forget_peak()
    memory, started, result, error = _peak(), time.monotonic(), None, None
    with watched(out, Path(os.environ.get("YOLO_CONFIG_DIR", os.devnull)), *writes, reaches=reaches) as watch:
        try:
            with _limited(seconds):
                result = ask(made, out)
        except TooLongError:
            return f"no answer after {seconds:g} s"
        except errors as refusal:
            error = refusal
        except Exception:
            return _where()
    if watch.deeds:
        return "; ".join(watch.deeds[:3])
    if after := changed(state, process_state()):
        return f"changed in the process: {', '.join(after[:3])}"
    if files_below(place, but=out) != files:
        return "files beside the output were changed"
    if (grown := _peak() - memory) > mebibytes:
        return f"took {grown:.0f} MiB in {time.monotonic() - started:.1f} s"
    if isinstance(result, Answer):
        return _about_answer(result, codes, item.accepted)
    if error is not None:
        if item.accepted:
            return f"refused: {error}"
        return _about_line(str(error))
    return "was accepted" if item.accepted is False else ""


def _about_answer(answer: Answer, codes: tuple[int, ...], accepted: bool | None) -> str:
    """What is wrong with what a command said."""
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    if "Traceback" in answer.stderr or "Traceback" in answer.stdout:
        return f"a traceback: {lines[-1][:300]}"
    if answer.code not in codes:
        return f"exit code {answer.code}: {lines[-1][:300] if lines else 'not a word'}"
    if answer.code and not lines:
        return f"exit code {answer.code} without a word"
    if accepted is True and answer.code:
        return f"refused with {answer.code}: {lines[-1][:300]}"
    if accepted is False and not answer.code:
        return "was accepted"
    return next((why for line in lines if (why := _about_line(line))), "") if answer.code else ""


def _about_line(line: str) -> str:
    """What is wrong with an error as a sentence."""
    if not line.strip():
        return "an error without a word"
    if "\n" in line.strip() or "\r" in line.strip():
        return f"an error of several lines: {line[:200]!r}"
    return f"an error of {len(line)} characters: {line[:200]!r}" if len(line) > LONGEST_LINE else ""


def _where() -> str:
    """The error that is being handled, and the last line of ours that it came through."""
    kind, error, trace = sys.exc_info()
    frames = [frame for frame in traceback.extract_tb(trace) if f"{os.sep}detcam{os.sep}" in frame.filename]
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{kind.__name__ if kind else ''}{place}: {str(error)[:300]}"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise :class:`TooLongError` after a while; end the process where even that is not heard."""

    def end(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(6 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _forget_peak() -> None:
    """Let the process's peak of memory start anew; where this is no Linux, it stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """The peak of the process's memory in MiB; 0 where this is no Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def _make_removable(place: Path) -> None:
    """Give back the rights that an input took from its folders."""
    for inside, _, _ in os.walk(place):
        with contextlib.suppress(OSError):
            Path(inside).chmod(0o755)
