"""What code does besides computing: processes, connections, changed files, and changes to the process it runs in."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import PIL.Image
import torch
import torch.nn.functional

STARTS_A_PROCESS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
REACHES_OUT = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.sendto",
    "urllib.Request",
)
CHANGES_FILES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
)
TAKES_FROM = ("os.symlink", "shutil.copyfile")
"""Those among them that leave what they name first as it is."""
FOLLOWS_LINKS = ("open", "os.chmod", "os.chown", "os.truncate", "shutil.copyfile")
"""Those that work on what a link leads to; the others take the link itself."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_watches: list[Watch] = []


class Watch:
    """What happened while a block ran; see :func:`watched`.

    Attributes:
        deeds: processes, connections and changes to files outside the output, one line each.
    """

    def __init__(self, *outputs: Path, reaches: tuple[object, ...] = ()) -> None:
        self.outputs = [os.path.realpath(output) for output in outputs]
        self.reaches = reaches
        self.deeds: list[str] = []

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judge one event of Python's audit hook."""
        if (event == "socket.connect" and arguments[1] in self.reaches) or (
            event == "socket.getaddrinfo" and arguments[:2] in self.reaches
        ):
            return
        if event.startswith((*STARTS_A_PROCESS, *REACHES_OUT)):
            self.deeds.append(f"{event} {arguments[:2]!r}"[:300])
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES:
                self._changed(event, path)
        elif event in CHANGES_FILES:
            for path in arguments[1:2] if event in TAKES_FROM else arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._changed(event, path)

    def _changed(self, event: str, path: Any) -> None:
        text = os.fsdecode(path)
        place = os.path.realpath(text)
        if event not in FOLLOWS_LINKS:  # a link itself is replaced or removed
            place = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))  # noqa: PTH118, PTH119, PTH120
        inside = any(place == output or place.startswith(output + os.sep) for output in self.outputs)
        if not inside and place != os.devnull:
            self.deeds.append(f"{event} {place}")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for watch in list(_watches):
        watch.see(event, arguments)


sys.addaudithook(_hook)  # which cannot be taken out again; without a watch it does nothing


@contextlib.contextmanager
def watched(*outputs: Path, reaches: tuple[object, ...] = ()) -> Iterator[Watch]:
    """Note what a block does to the world. Only Python's own calls are seen: C code that opens a file is not.

    Args:
        outputs: files and folders that may be written.
        reaches: addresses that may be connected to.
    """
    watch = Watch(*outputs, reaches=reaches)
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


def files_below(folder: Path, but: Path | None = None) -> dict[str, Any]:
    """Every entry below a folder, with its size and time or where it links to.

    Args:
        folder: which is looked at; links are not followed.
        but: a folder that is left out.
    """
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if but is None or Path(place, name) != but]
        for name in (*folders, *names):
            path = Path(place, name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                linked = path.readlink() if path.is_symlink() else None
                found[str(path)] = (status.st_size, status.st_mtime_ns if path.is_file() else 0, linked)
    return found


def process_state() -> dict[str, Any]:
    """What code that runs inside somebody's process has to leave as it was, by name."""
    state: dict[str, Any] = {
        "working directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "sys.meta_path": [id(finder) for finder in sys.meta_path],
        "streams": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "recursion limit": sys.getrecursionlimit(),
        "warnings": list(warnings.filters),
        "root logger": [id(handler) for handler in logging.getLogger().handlers],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "torch's safe globals": sorted(map(str, torch.serialization.get_safe_globals())),
        "threads of torch": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "torch's random state": torch.get_rng_state().sum().item(),
        "threads of OpenCV": cv2.getNumThreads(),
        "Image.MAX_IMAGE_PIXELS": PIL.Image.MAX_IMAGE_PIXELS,
    }
    for module in (builtins, os, io, torch, torch.nn.functional, PIL.Image, cv2):
        state |= {f"{module.__name__}.{name}": id(value) for name, value in vars(module).items() if callable(value)}
    for kind in _classes():
        state[f"{kind.__module__}.{kind.__qualname__}"] = {
            name: id(value)
            for name, value in vars(kind).items()
            if name != "next_id"  # a counter of hooks
        }
    return state


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is no longer as it was; what is new in a module (imported late) does not count."""
    return [name for name, value in before.items() if after.get(name) != value]


def _classes() -> list[type]:
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(("torch.nn.modules", "ultralytics.nn", "models.", "yolov5.models"))
    ]
    found = {value for module in modules for value in list(vars(module).values()) if inspect.isclass(value)}
    return [torch.Tensor, torch.nn.Parameter, *sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))]
