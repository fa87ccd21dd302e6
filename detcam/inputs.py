"""Whether what a command is given is there: weights, labelled data, images. Nothing is opened, and no torch needed."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from detcam.errors import UsageError, WeightsError
from detcam.options import brought_names

OFFICIAL_NAME = re.compile(r"((yolo(v?\d|e-|_nas_)|(mobile_)?sam[\d._]*|FastSAM-|rtdetr-).*)\.pt")
"""What names of Ultralytics' own checkpoints look like, which are downloaded; others may look like it too."""
DATA_SUFFIXES = (".json", ".yaml", ".yml")


def check_weights(weights: str | PathLike[str]) -> None:
    """Refuse weights where nothing is that could be read.

    Args:
        weights: the path of a checkpoint or of an ``.onnx`` export, or an official Ultralytics name.

    Raises:
        WeightsError: there is nothing; whether what there is can be read is not asked.
        OSError: the path cannot be looked at.
    """
    path = Path(weights)
    there = path.is_file() if path.suffix.lower() == ".onnx" else path.exists()
    if not there and not (path.parent == Path() and OFFICIAL_NAME.fullmatch(path.name)):
        raise no_weights(path)


def no_weights(path: Path) -> WeightsError:
    """What is wrong with weights that are not there."""
    kind = "an .onnx export" if path.suffix.lower() == ".onnx" else "a .pt checkpoint"
    return WeightsError(f"no such weights file: {path}; give the path of {kind}")


def check_data(data: str | Path, images_dir: str | Path | None = None) -> None:
    """Refuse a labelled set that is none of detcam's own formats by its path.

    Args:
        data: as :func:`detcam.data.read_data` is given it.
        images_dir: likewise.

    Raises:
        UsageError: nothing is there, or a file of another kind; ``images_dir`` without a COCO ``.json``, or no folder.
    """
    path = Path(data)
    known = "a COCO instances .json, an Ultralytics data.yaml, or a folder or glob of images"
    if formats := brought_names("detcam.data_formats"):
        known += f", or what a registered format takes ({', '.join(formats)})"
    if not _is_there(path) and not glob.has_magic(str(path)):
        raise UsageError(f"{path}: no such file or folder; expected {known}")
    is_folder = _is_there(path) and path.is_dir()
    kind = path.suffix.lower() if _is_there(path) and not is_folder else ""
    if kind not in DATA_SUFFIXES and _is_there(path) and not is_folder:
        raise UsageError(f"{path}: not a labelled set; expected {known}")
    if images_dir is not None and kind != ".json":
        raise UsageError(f"images_dir={str(images_dir)!r} goes with a COCO .json, and {path} is none")
    if images_dir is not None and not (_is_there(Path(images_dir)) and Path(images_dir).is_dir()):
        raise UsageError(f"images_dir={str(images_dir)!r}: no such folder")


def check_run(run: str | Path) -> None:
    """Refuse a folder of this machine in which there is no run.

    Args:
        run: a run folder, or the address of one.

    Raises:
        UsageError: it has no ``run.json``.
    """
    if "://" not in str(run) and not _is_there(Path(run) / "run.json"):
        raise no_run(run)


def no_run(run: str | Path) -> UsageError:
    """What is wrong with a folder that holds no run."""
    return UsageError(f"{run} is no run folder: it has no run.json, so there is no run of detcam to read")


def find_missing(sources: Sequence[str]) -> list[str]:
    """The sources that name a file or a folder of this machine where nothing is; the others may be anything.

    Args:
        sources: of images, as a command is given them: also patterns, addresses, streams, and ``-``.
    """
    named = [source for source in sources if source != "-" and ":" not in source and not glob.has_magic(source)]
    return [source for source in named if not _is_there(Path(source))]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for any file; a null byte
        return False
