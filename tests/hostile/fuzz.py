"""Coverage-guided fuzzing of the parsers that read what strangers hand us.

``pip install atheris``, then ``python tests/hostile/fuzz.py TARGET --seconds N``; ``all`` shares the time out among the
targets, each in a process of its own. What is wrong (another error than detcam's own, or no answer in ten seconds of
work) is written to ``--out``, once for each place in the code that it comes from, and the search
goes on. libFuzzer's last lines say how many inputs were tried and how many branches they reached.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(
    include=["detcam.data", "detcam.io", "detcam.values", "detcam.config", "detcam.runs", "detcam.adapters.pickles"]
):
    from detcam.adapters.pickles import read_records
    from detcam.cli import to_config
    from detcam.config import COMMANDS, keys_of
    from detcam.data import read_data
    from detcam.io.documents import parse_json, parse_yaml
    from detcam.io.images import read_image, stored_size
    from detcam.runs.reading import open_run
    from detcam.values import read_options

from detcam.errors import DetcamError
from hostile import label_inputs
from hostile.odd_values import BROKEN_TEXTS, damaged, dumped

SECONDS = 10
"""Of processor time that one answer may take; where it waits for something, libFuzzer ends the search."""
LONGEST = 4096
"""Bytes of an input."""


class SlowError(BaseException):
    """An answer was not there in time."""


def lines_of_yolo(folder: Path) -> Callable[[bytes], object]:
    """Label files, with keypoints and without."""
    made = label_inputs.write_yolo(label_inputs.yolo(), b"", folder)
    points = folder / "points.yaml"
    points.write_bytes(dumped({**label_inputs.yolo(), "kpt_shape": [2, 3]}))

    def ask(data: bytes) -> object:
        (folder / "labels" / "other.txt").write_bytes(data[1:])
        return read_data(points if data[:1] == b"k" else made.path)

    return ask


def documents_of_coco(folder: Path) -> Callable[[bytes], object]:
    """COCO's JSON."""
    made = label_inputs.write_coco(label_inputs.coco(), folder)

    def ask(data: bytes) -> object:
        made.path.write_bytes(data)
        found = read_data(made.path)
        return [truth.mask(*image.size) for image in found.images for truth in image.truths]

    return ask


def descriptions_of_sets(folder: Path) -> Callable[[bytes], object]:
    """``data.yaml``."""
    made = label_inputs.write_yolo(label_inputs.yolo(), b"1 0.5 0.5 0.4 0.4\n", folder)

    def ask(data: bytes) -> object:
        made.path.write_bytes(data)
        return read_data(made.path)

    return ask


def documents(folder: Path) -> Callable[[bytes], object]:
    """JSON and YAML by themselves."""

    def ask(data: bytes) -> object:
        return parse_json(data[1:]) if data[:1] == b"j" else parse_yaml(data[1:])

    return ask


def configurations(folder: Path) -> Callable[[bytes], object]:
    """Configuration files of every command, the first byte says which."""
    commands = list(COMMANDS)
    job = folder / "job.yaml"

    def ask(data: bytes) -> object:
        command = commands[(data[0] if data else 0) % len(commands)]
        job.write_bytes(data[1:])
        given = argparse.Namespace(**read_options(str(job), command))
        fields = {key: getattr(COMMANDS[command](), name) for name, key in keys_of(COMMANDS[command]).items()}
        return to_config(COMMANDS[command], argparse.Namespace(**{**fields, **vars(given)}))

    return ask


def images(folder: Path) -> Callable[[bytes], object]:
    """Images of small sizes, their headers first."""
    place = folder / "image"

    def ask(data: bytes) -> object:
        place.write_bytes(data)
        return stored_size(place, 10**6), read_image(str(place), max_pixels=10**6)

    return ask


def runs(folder: Path) -> Callable[[bytes], object]:
    """What stands beside a run's tables; the parts of an input are separated by null bytes."""
    names = ("run.json", "summary.json", "failures.jsonl", "causes.json", "verdicts.json")

    def ask(data: bytes) -> object:
        for name, part in zip(names, data.split(b"\0"), strict=False):
            (folder / name).write_bytes(part)
        run = open_run(folder)
        return [getattr(run, name) for name in dir(type(run)) if isinstance(getattr(type(run), name), property)]

    return ask


def pickles(folder: Path) -> Callable[[bytes], object]:
    """A checkpoint's pickle, read as records."""

    def ask(data: bytes) -> object:
        with contextlib.suppress(pickle.UnpicklingError):  # which the reader of checkpoints makes one line of
            return read_records(data)
        return None

    return ask


TARGETS: dict[str, Callable[[Path], Callable[[bytes], object]]] = {
    "yolo-lines": lines_of_yolo,
    "coco": documents_of_coco,
    "set-yaml": descriptions_of_sets,
    "documents": documents,
    "configurations": configurations,
    "images": images,
    "runs": runs,
    "pickles": pickles,
}


def first_inputs(target: str) -> list[bytes]:
    """What the search starts from.

    Args:
        target: of :data:`TARGETS`.
    """
    texts = [data[:LONGEST] for data in BROKEN_TEXTS.values()]
    lines = b"0 0.5 0.5 0.4 0.4\n1 0.1 0.1 0.5 0.1 0.5 0.5\n"
    right = {
        "yolo-lines": [b" " + lines, b"k0 0.5 0.5 0.4 0.4 0.5 0.5 2 0.4 0.4 1\n", *(b" " + text for text in texts)],
        "coco": [dumped(label_inputs.coco()), dumped({**label_inputs.coco(), "annotations": [{
            "id": 1, "image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1,
            "segmentation": {"size": [48, 64], "counts": [10, 20, 3042]},
        }]}), *texts],
        "set-yaml": [label_inputs.YOLO.encode(), dumped(label_inputs.yolo()), *texts],
        "documents": [b"j" + text for text in texts] + [b"y" + text for text in texts],
        "configurations": [
            b"\0conf: 0.3\nsource: [a.png]\nimgsz: [32, 64]\nclasses: gem\nsave: none\nhalf: false\n",
            b"\x04conf: 0.3\nmap: a:b\nport: 1\njson: true\nimages_dir: ~\n",
            *(b"\0" + text for text in texts),
        ],
        "pickles": [pickle.dumps({"a": [1, (2.5, "b")], "c": OrderedDict(d=Path("e"))}, 2), BROKEN_TEXTS["a pickle"]],
        "images": [label_inputs.picture()[:LONGEST], *small_images(), *texts],
        "runs": [b'{"command": "explain", "configuration": {}}\0{"images": 1}\0{"source": "a"}\n\0[]\0{}', *texts],
    }[target]  # fmt: skip
    random = Random(0)
    return right + [data for one in right[:2] if one for _, data in damaged(one, random, 60)]


def small_images() -> list[bytes]:
    """A few pixels in every format that OpenCV writes."""
    import cv2
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 255, (40, 33, 3), np.uint8)
    found = []
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".gif", ".jp2", ".avif"):
        with contextlib.suppress(cv2.error):
            found.append(cv2.imencode(suffix, pixels)[1].tobytes())
    return found


def search(target: str, seconds: int, out: Path) -> None:
    """Search one target for a time, and end the process.

    Args:
        target: of :data:`TARGETS`.
        seconds: how long.
        out: where inputs that are answered wrongly are written.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    corpus = place / "corpus"
    for folder in (out, corpus, place / "set"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(first_inputs(target)):
        (corpus / f"{number}").write_bytes(data)
    ask, known = TARGETS[target](place / "set"), set[str]()

    def end(*_: object) -> None:
        raise SlowError

    signal.signal(signal.SIGPROF, end)

    def one_input(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            ask(data)
        except DetcamError:
            pass
        except (Exception, SlowError) as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            frames = traceback.extract_tb(error.__traceback__)
            where = next((f for f in reversed(frames) if "detcam" in f.filename), frames[-1])
            words = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            if words not in known:
                known.add(words)
                name = f"{target}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"
                (out / f"{name}.input").write_bytes(data)
                (out / f"{name}.txt").write_text("".join(traceback.format_exception(error)), errors="replace")
                sys.stderr.write(f"WRONG {target}: {words}: {' '.join(str(error).split())[:200]}\n")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    arguments = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-rss_limit_mb=4096", "-timeout=60"]
    atheris.Setup([sys.argv[0], *arguments, f"-artifact_prefix={out}/", str(corpus)], one_input)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Search one target, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=600, help="of the whole search")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="a folder for what is answered wrongly")
    given = parser.parse_args()
    if given.target != "all":
        search(given.target, given.seconds, given.out)
    for target in TARGETS:
        share = str(max(given.seconds // len(TARGETS), 1))
        sys.stderr.write(f"{target}: {share} seconds\n")
        sys.stderr.flush()
        subprocess.run([sys.executable, __file__, target, "--seconds", share, "--out", str(given.out)], check=False)


if __name__ == "__main__":
    main()
