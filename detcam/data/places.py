"""Where the files are that a labelled set names by paths of another machine."""

from __future__ import annotations

import os
import stat
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PureWindowsPath

from detcam.io.documents import read_json
from detcam.io.sources import mode_of


class ImageFolders:
    """Finds images by names that may hold folders of another machine, with ``/`` or with backslashes.

    Args:
        folders: where to look.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders

    def find(self, name: str) -> tuple[Path, bool]:
        """The image of a name; where nothing has the name, where it would lie in the first folder.

        Args:
            name: below one of the folders. Where nothing has a name that holds folders, the only file below them of its
                base name is taken, or of several the one of which most folders agree.

        Returns:
            Its path, and whether it was found by its base name.

        Raises:
            ValueError: several are as likely.
        """
        parts = PureWindowsPath(name).parts  # which splits at either slash
        exact = [folder / spelled for spelled in (name, "/".join(parts)) for folder in self.folders]
        found = next((place for place in exact if stat.S_ISREG(mode_of(place))), None)
        if found is not None or len(parts) < 2:
            return found or exact[0], False
        files = {os.path.realpath(place): place for place in reversed(self._by_name.get(parts[-1], []))}
        alike = list(reversed(files.values()))
        agreed = [_shared_end(place.parts, parts) for place in alike]
        likely = [place for place, shared in zip(alike, agreed, strict=True) if shared == max(agreed)]
        if len(likely) > 1:
            several = ", ".join(map(str, likely[:3])) + (", ..." if len(likely) > 3 else "")
            raise ValueError(f"no such file, and {len(likely)} are called {parts[-1]!r}: {several}")
        return (likely[0], True) if likely else (exact[0], False)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Every file below the folders by its base name."""
        files: dict[str, list[Path]] = defaultdict(list)
        for folder in self.folders:
            for root, folders, names in os.walk(folder if not is_root(folder) else ""):
                folders.sort()
                for name in names:
                    files[name].append(Path(root, name))
        return dict(files)


def is_root(folder: Path) -> bool:
    """Whether a folder is that of the whole file system, which is no set of images.

    Args:
        folder: which may be written as many ``..``.
    """
    place = os.path.realpath(folder)
    return place == os.path.dirname(place)  # noqa: PTH120  (of text, as `realpath` gives it)


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts at the end of two paths are equal."""
    count = 0
    for part, counterpart in zip(reversed(one), reversed(other), strict=False):
        if part != counterpart:
            break
        count += 1
    return count


def roots_of(file: Path, root: str, entries: Sequence[str]) -> tuple[list[Path], str]:
    """The folders in which what a ``data.yaml`` names may lie, the most likely first, and what to tell of them.

    Ultralytics takes a relative ``path`` from the working folder, and where nothing is there from its datasets folder.
    Here the folder of the file goes first, because a set that lies there is the one that came with it, and comes again
    at the end, for a ``path`` of another machine.

    Args:
        file: the ``data.yaml``.
        root: its ``path``.
        entries: what it names there: folders, and lists of images.

    Returns:
        The folders that exist, each once; and a sentence, empty where ``path`` is beside the file and nowhere else.
    """
    places = {"beside the file": file.parent / root, "in the working folder": Path(root)}
    if (datasets := datasets_folder()) is not None:
        places["in Ultralytics' datasets folder"] = datasets / root
    existing = [place for place in reversed([*places.values(), file.parent]) if stat.S_ISDIR(mode_of(place))]
    folders = {place.resolve(): place for place in existing}
    bases = list(reversed(folders.values()))
    inside = [entry for entry in entries if not Path(entry).is_absolute()]
    holding: dict[Path, str] = {}
    for words, place in places.items():
        if any(first_place(entry, [place]) for entry in inside):
            holding.setdefault(place.resolve(), words)
    others = "".join(f"; there is one {words} too: {place}" for place, words in list(holding.items())[1:])
    for place, words in holding.items():
        if Path(root).is_absolute() or (words == "beside the file" and not others):
            break
        return bases, f"path {root!r} was found {words}: {place}{others}"
    if inside and not holding and first_place(inside[0], [file.parent]):
        return bases, f"path {root!r} is nowhere here; taken for the folder of {file.name}: {file.parent.resolve()}"
    return bases, ""


def first_place(name: str, folders: Sequence[Path]) -> Path | None:
    """The first folder's file or folder of a name. Some exports write ``../`` before folders that are right here.

    Args:
        name: of a file or folder.
        folders: where to look.
    """
    places = (folder / inside for folder in folders for inside in (name, name.removeprefix("../")))
    return next((place for place in places if mode_of(place)), None)


def datasets_folder() -> Path | None:
    """The folder for data sets in Ultralytics' settings, or None where there are no settings that say it."""
    home = Path.home()
    if configured := os.environ.get("YOLO_CONFIG_DIR"):
        base = Path(configured).expanduser()
    elif sys.platform == "win32":
        base = home / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"))
    try:
        settings = read_json(base / "Ultralytics" / "settings.json")
        return Path(settings["datasets_dir"])
    except (ValueError, KeyError, TypeError, RuntimeError):  # of a home folder that cannot be told, the last
        return None
