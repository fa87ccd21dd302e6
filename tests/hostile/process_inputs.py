"""Processes that detcam may be started as, and states in which somebody's process may call it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from hostile.judging import Answer, Input

SECONDS = 100
"""That a process may take on a busy machine."""
METHODS, HELP, WRONG = ("methods",), ("--help",), ("methods", "--nothing")
NO_WEIGHTS = ("layers", "--weights", "nowhere.pt")

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None},
    "a home that is nowhere": {"HOME": "/nowhere/at/all"},
    "a home that is a device": {"HOME": "/dev/null"},
    "no room for temporary files": {"TMPDIR": "/nowhere/at/all"},
    "temporary files on a device": {"TMPDIR": "/dev/null"},
    "the C locale": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is none": {"LC_ALL": "xx_XX.nothing"},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
    "UTF-16 streams": {"PYTHONIOENCODING": "utf-16"},
    "warnings as errors": {"PYTHONWARNINGS": "error"},
    "broken warnings": {"PYTHONWARNINGS": "nothing::at::all"},
    "no assertions": {"PYTHONOPTIMIZE": "1"},
    "no docstrings": {"PYTHONOPTIMIZE": "2"},
    "developers' mode": {"PYTHONDEVMODE": "1"},
    "no columns": {"COLUMNS": "0"},
    "columns that are no number": {"COLUMNS": "many", "LINES": "-1"},
    "no terminal": {"TERM": "", "NO_COLOR": "1"},
    "colours": {"FORCE_COLOR": "1", "TERM": "xterm-256color"},
    "threads that are no number": {"OMP_NUM_THREADS": "many"},
    "no path": {"PATH": ""},
    "settings of others on a device": {"MPLCONFIGDIR": "/dev/null", "YOLO_CONFIG_DIR": "/dev/null"},
    "a hash seed": {"PYTHONHASHSEED": "1"},
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
}
SHELLS: dict[str, str] = {
    "no stdin": "{} <&-",
    "no stdout": "{} >&-",
    "no stderr": "{} 2>&-",
    "no streams": "{} <&- >&- 2>&-",
    "stdout full": "{} >/dev/full",
    "stderr full": "{} 2>/dev/full",
    "both full": "{} >/dev/full 2>/dev/full",
    "stdout for reading": "{} 1</dev/null",
    "a reader that goes": "{} | head -c 1; exit ${{PIPESTATUS[0]}}",
    "a folder that is gone": "mkdir gone && cd gone && rmdir ../gone && {}",
    "a folder of the system": "cd /proc && {}",
    "32 handles": "ulimit -n 32; {}",
    "12 handles": "ulimit -n 12; {}",
    "no file of any size": "ulimit -f 0; {}",
    "no core": "ulimit -c 0; {}",
    "a small stack": "ulimit -s 512; {}",
    "half a gigabyte": "ulimit -v 500000; {}",
    "no rights": "umask 777; {}",
    "no hangup": "trap '' HUP; {}",
    "Ctrl-C ignored": "trap '' INT; {}",
}


def process(command: tuple[str, ...], shell: str, environment: dict[str, str | None], folder: Path) -> Answer:
    """Run a command as a process of its own, through a shell; who reads no more, or not at all, need not be told."""
    own = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "detcam", *command))
    try:
        ran = subprocess.run(
            ["/bin/bash", "-c", shell.format(words)], cwd=folder, env=own, capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"no end after {SECONDS} s")
    out, err = (text.decode("utf-8", "backslashreplace") for text in (ran.stdout, ran.stderr))
    return Answer(ran.returncode, out, err or ("told nobody" if "2>" in shell or "|" in shell else ""))


def environments() -> Iterator[Input]:
    """Variables that nobody expects."""
    for number, (words, environment) in enumerate(ENVIRONMENTS.items()):
        for command in (METHODS, (HELP, WRONG, NO_WEIGHTS)[number % 3]):
            yield Input(f"{words}: {' '.join(command)}", partial(process, command, "{}", environment))


def shells() -> Iterator[Input]:
    """Streams that are closed or full, limits, and folders that are gone."""
    for number, (words, shell) in enumerate(SHELLS.items()):
        for command in (METHODS, (HELP, WRONG, NO_WEIGHTS)[number % 3]):
            yield Input(f"{words}: {' '.join(command)}", partial(process, command, shell, {}))


def signals(seed: int, count: int) -> Iterator[Input]:
    """A signal at any time from the first moment on."""
    random = Random(seed)
    for number in range(count):
        which = (signal.SIGINT, signal.SIGTERM)[number % 2]
        seconds = random.choice((0.0, random.uniform(0, 0.4), random.uniform(0, 2), random.uniform(0, 8)))
        yield Input(f"{which.name} after {seconds:.2f} s", partial(interrupted, which, seconds))


def interrupted(which: signal.Signals, seconds: float, folder: Path) -> Answer:
    """Send a signal to a command that loads a detector; Python itself is waited for, as it hears none before."""
    ready = folder / "ready"
    script = f"import signal, pathlib; pathlib.Path({str(ready)!r}).touch(); from detcam.__main__ import start; start()"
    command = [sys.executable, "-c", script, "layers", "--weights", "nowhere.pt", "--device", "cpu"]
    if seconds > 0.4:
        command = [sys.executable, "-c", script, "methods"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        while not ready.exists() and ran.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds + 0.1)
        ran.send_signal(which)
        try:
            out, err = ran.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            ran.kill()
            return Answer(124, "", "no end")
    ready.unlink(missing_ok=True)
    return Answer(ran.returncode, out, err)


def states() -> Iterator[Input]:
    """States of torch in which a process may ask, alone and two by two."""
    for one, other in itertools.combinations_with_replacement(STATES, 2):
        name = one if one == other else f"{one} and {other}"
        yield Input(name, lambda _folder, pair=(one, other): pair)


STATES: dict[str, Callable[[Any], Any]] = {
    "inference mode": lambda torch: torch.inference_mode(),
    "no gradients": lambda torch: torch.no_grad(),
    "gradients": lambda torch: torch.enable_grad(),
    "autocast": lambda torch: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": lambda torch: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "float16 by default": lambda torch: _set(torch.set_default_dtype, torch.float16, torch.float32),
    "the meta device by default": lambda torch: torch.device("meta"),
    "the processor by default": lambda torch: torch.device("cpu"),
    "deterministic algorithms": lambda torch: _set(torch.use_deterministic_algorithms, True, False),
    "anomalies detected": lambda torch: torch.autograd.set_detect_anomaly(True),
    "multithreading off": lambda torch: torch.autograd.set_multithreading_enabled(False),
    "one thread": lambda torch: _set(torch.set_num_threads, 1, torch.get_num_threads()),
    "denormals flushed": lambda torch: _set(torch.set_flush_denormal, True, False),
}


class _set:  # noqa: N801
    """A setting while a block runs."""

    def __init__(self, change: Callable[[Any], Any], value: Any, before: Any) -> None:
        self._change, self._value, self._before = change, value, before

    def __enter__(self) -> None:
        self._change(self._value)

    def __exit__(self, *error: object) -> None:
        self._change(self._before)
