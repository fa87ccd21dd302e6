"""Find the images that the sources of a run name: files, folders, globs, and lists of any of them in a text file."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detcam.images import SUFFIXES


@dataclass(frozen=True)
class Missing:
    """A source that names no image, and why."""

    source: str
    reason: str


def find_images(sources: Sequence[str]) -> tuple[list[Path], list[Missing]]:
    """The images of all sources in order, each once, and the sources that name none.

    A source is an image, a folder (searched recursively), a glob pattern (``**`` included) or a ``.txt`` list with one
    source a line, relative to the list. A named file is taken whatever its suffix; a folder gives its image files only.
    """
    images: dict[Path, Path] = {}
    missing: list[Missing] = []
    for source in sources:
        for found in _expand(source, Path(), top=True):
            if isinstance(found, Missing):
                missing.append(found)
            else:
                images.setdefault(found.absolute(), found)
    return list(images.values()), missing


def _expand(source: str, base: Path, top: bool) -> Iterator[Path | Missing]:
    path = base / source
    if path.is_dir():
        inside: list[Path] = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        yield from inside
        if not inside:
            yield Missing(source, f"no images in this folder; known kinds: {_kinds()}")
    elif path.is_file() and path.suffix.lower() == ".txt" and top:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not names:
            yield Missing(source, "this list names no images")
        for name in names:
            yield from _expand(name, path.parent, top=False)
    elif path.is_file():
        yield path
    elif glob.has_magic(source):
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207  (absolute patterns)
        inside = [p for p in matches if p.suffix.lower() in SUFFIXES and p.is_file()]
        yield from inside
        if not inside:
            yield Missing(source, "no image matches this pattern")
    else:
        yield Missing(str(path), "no such file or folder")


def _kinds() -> str:
    return ", ".join(suffix[1:] for suffix in SUFFIXES)
