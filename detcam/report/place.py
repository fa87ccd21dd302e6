"""The folder of a report: what detcam wrote there is replaced, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from detcam.errors import UsageError
from detcam.runs.own_files import refuse_foreign_places

FOLDERS = ("images", "thumbs", "heat", "causes")
DATA = "data.js"
DATA_START = b"window.DETCAM = "
_PICTURE = re.compile(r"\d+(-\d+)?\.(jpg|png)")


def prepare(run: Path, names: Iterable[str]) -> Path:
    """The folder ``report`` of a run, in which a report can be written.

    Args:
        run: the run folder.
        names: of the report's files beside its pictures.

    Raises:
        UsageError: a link, a pipe or the like is in its place or in it, or files of these names that no report left.
        OSError: it cannot be read or made.
    """
    out = run / "report"
    refuse_foreign_places(run, ["report"])
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, in the place of the report; remove it")
    data = out / DATA
    ours = data.is_file() and _start_of(data) == DATA_START
    if not ours and (there := [name for name in names if (out / name).exists()]):
        raise UsageError(f"{out / there[0]} is no report of detcam's and would be replaced; move {out} away")
    out.mkdir(exist_ok=True)
    return out


def fresh_pictures(out: Path) -> Path:
    """A folder for the pictures of a report being built, without any.

    Args:
        out: the report's folder.
    """
    fresh = out / ".pictures.partial"
    _remove_pictures(fresh)
    for folder in FOLDERS:
        (fresh / folder).mkdir(parents=True, exist_ok=True)
    return fresh


def put_in_place(out: Path, fresh: Path) -> None:
    """Put new pictures in the place of the old ones; files of other names that were among these stay.

    Args:
        out: the report's folder.
        fresh: from :func:`fresh_pictures`.
    """
    old = out / "pictures"
    _remove_pictures(old)
    if not old.exists():
        fresh.rename(old)
        return
    for folder in FOLDERS:
        (old / folder).mkdir(exist_ok=True)
        for picture in (fresh / folder).iterdir():
            picture.replace(old / folder / picture.name)
    _remove_pictures(fresh)


def _remove_pictures(folder: Path) -> None:
    """Remove a report's pictures from a folder, and the folders that are empty then."""
    for inner in FOLDERS:
        place = folder / inner
        if place.is_dir():
            for file in place.iterdir():
                if _PICTURE.fullmatch(file.name) and file.is_file():
                    file.unlink()
            _remove_empty(place)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(DATA_START))
