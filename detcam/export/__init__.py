"""A run folder in other tools' formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from detcam.errors import UsageError, nearest
from detcam.export.coco import write_coco
from detcam.export.counterfactuals import write_counterfactuals
from detcam.export.fiftyone import write_fiftyone
from detcam.export.relabel import write_relabel
from detcam.export.run import JudgedRun as JudgedRun
from detcam.export.run import read_run as read_run
from detcam.export.supervision import read_supervision as read_supervision
from detcam.export.supervision import to_supervision as to_supervision
from detcam.export.supervision import write_supervision
from detcam.export.tables import write_csv
from detcam.io.files import on_this_machine

WRITERS: Mapping[str, Callable[[JudgedRun, Path], str]] = {
    "coco": write_coco,
    "csv": write_csv,
    "fiftyone": write_fiftyone,
    "supervision": write_supervision,
    "relabel": write_relabel,
    "counterfactuals": write_counterfactuals,
}
"""Each writes a run into an empty folder and tells what it wrote."""


def export(run: str | Path, to: str, out: str | Path, name: str | None = None) -> str:
    """Write a run folder of ``detcam review`` or ``detcam explain`` in another tool's format.

    What the run does not have (an explained one has no error types and no truths) is left out. The run is only read.

    Args:
        run: the run folder.
        to: one of :data:`WRITERS`.
        out: a folder that does not exist or is empty.
        name: of FiftyOne's data set; default: the run folder's.

    Returns:
        What was written and what had to be left out, to be shown.

    Raises:
        UsageError: an unknown format; no finished run; ``out`` holds something; a package that the format needs is
            missing; FiftyOne has a data set of that name.
    """
    if to not in WRITERS:
        raise UsageError(f"cannot export to {to!r}{nearest(to, WRITERS)}")
    if name is not None and to != "fiftyone":
        raise UsageError(f"name={name!r} names a data set of FiftyOne's, and goes with 'fiftyone' only, not {to!r}")
    found, out = read_run(run), on_this_machine(out, "an export is written to a folder")
    write = WRITERS[to] if name is None else partial(write_fiftyone, name=name)
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UsageError(f"{out} is not an empty folder; choose another: nothing is ever replaced")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder") from error
    try:
        return write(found, out)
    except BaseException:
        shutil.rmtree(out)  # it was empty, so all of it is half an export
        raise
