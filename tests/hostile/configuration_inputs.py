"""Options and configuration files as nobody should write them, for every command."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, get_type_hints

from detcam.config import COMMANDS, keys_of
from detcam.demo import WEIGHTS
from hostile.judging import Input
from hostile.label_inputs import write_yolo, yolo
from hostile.odd_values import BROKEN_TEXTS, DEEP, HUGE, ODD_VALUES, damaged, dumped

PATHS = ("weights", "data", "out", "run", "images_dir", "against", "yolov5_repo", "to", "name", "split")
"""Options that are text."""
SHARE = 4
"""Odd values that each option is tried with in one way; others with another ``--hostile-seed``."""


def right_words(command: str, folder: Path) -> list[str]:
    """Words with which a command would start, on files below a folder."""
    made = write_yolo(yolo(), b"1 0.5 0.5 0.4 0.4\n", folder)
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text("{}")
    image, weights, out = (
        str(folder / "images" / "good.png"),
        ["--weights", str(WEIGHTS)],
        ["--out", str(folder.parent / "out")],
    )
    words = {
        "explain": [image, *weights, *out],
        "bench": [image, *weights],
        "layers": weights,
        "methods": [],
        "demo": out,
        "report": [str(run)],
        "export": [str(run), "--to", "coco", *out],
    }
    return words.get(command, [*weights, "--data", str(made.path), *out])


def odd_words(value: Any) -> str:
    """An odd value as a word of a command line."""
    if value == HUGE:
        return "9" * 5000
    return value if isinstance(value, str) else dumped(value).decode("utf-8", "surrogatepass")


def options(command: str) -> list[str]:
    """The keys of a command's options."""
    return list(keys_of(COMMANDS[command]).values())


def words_of_options(seed: int) -> Iterator[Input]:
    """Every option of every command with some odd values, as words."""
    random = Random(seed)
    for command in COMMANDS:
        for key in options(command):
            for words, value in random.sample(list(ODD_VALUES.items()), SHARE):
                given = (
                    [odd_words(value)]
                    if key in ("source", "run")
                    else [f"--{key.replace('_', '-')}={odd_words(value)}"]
                )
                yield Input(f"{command}: {key} is {words}", partial(_words, command, given))


def _words(command: str, more: list[str], folder: Path) -> list[str]:
    return [command, *right_words(command, folder), *more]


def files_of_options(seed: int) -> Iterator[Input]:
    """The same, as entries of a configuration file, given with ``--config`` and with ``run``."""
    random = Random(seed + 1)
    for command in COMMANDS:
        for key in [*options(command), "command", "config", "print_config", "help"]:
            for words, value in random.sample(list(ODD_VALUES.items()), SHARE):
                how = random.choice(("run", "config"))
                document = {"command": command, key: value}
                yield Input(f"{command}, {how}: {key} is {words}", partial(_file, command, dumped(document), how))


def _file(command: str, data: bytes, how: str, folder: Path) -> list[str]:
    words = right_words(command, folder)
    (folder / "job.yaml").write_bytes(data)
    job = str(folder / "job.yaml")
    return ["run", job, *words] if how == "run" else [command, "--config", job, *words]


def broken_files(seed: int) -> Iterator[Input]:
    """Configuration files that are no YAML, and damaged ones."""
    for words, data in BROKEN_TEXTS.items():
        for how in ("run", "config"):
            yield Input(f"{how}: {words}", partial(_file, "explain", data, how), accepted=None)
    right = b"command: explain\nconf: 0.3\nsource: [a.png]\nimgsz: [32, 64]\nclasses: gem\nsave: none\nhalf: false\n"
    for words, data in damaged(right, Random(seed), 120):
        yield Input(f"explain, {words}", partial(_file, "explain", data, "config"))
    for words, make in PLACES.items():
        for how in ("run", "config"):
            yield Input(f"{how}: {words}", partial(_place, make, how), accepted=False)


def _place(make: Any, how: str, folder: Path) -> list[str]:
    words = right_words("explain", folder)
    place = make(folder)
    return ["run", place, *words] if how == "run" else ["explain", f"--config={place}", *words]


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return str(folder / "pipe")


def _hole(folder: Path) -> str:
    (folder / "hole.yaml").touch()
    os.truncate(folder / "hole.yaml", 10**10)
    return str(folder / "hole.yaml")


def _itself(folder: Path) -> str:
    (folder / "loop.yaml").symlink_to("loop.yaml")
    return str(folder / "loop.yaml")


def _recursion(folder: Path) -> str:
    (folder / "job.yaml").write_text(f"command: explain\nconfig: {folder / 'job.yaml'}\n")
    return str(folder / "job.yaml")


PLACES = {
    "a pipe": _pipe,
    "a hole of 10 GB": _hole,
    "a link to itself": _itself,
    "a file that names itself": _recursion,
    "a folder": str,
    "an endless device": lambda folder: "/dev/zero",
    "nothing": lambda folder: "/dev/null",
    "a file of the system": lambda folder: "/etc/hostname",
    "memory": lambda folder: "/proc/self/mem",
    "no file": lambda folder: str(folder / "none.yaml"),
    "a long name": lambda folder: "a" * 5000,
    "a null byte": lambda folder: "a\0b",
    "an address": lambda folder: "http://127.0.0.1:9/job.yaml",
    "a bucket": lambda folder: "s3://bucket/job.yaml",
    "an image": lambda folder: str(folder / "images" / "good.png"),
    "the weights": lambda folder: str(WEIGHTS),
    "YAML itself": lambda folder: "{conf: 0.5}",
    "empty": lambda folder: "",
}

CONTRADICTIONS = (
    """
explain --half --device cpu
explain --half
explain --box 1,2,3,4
explain --class gem
explain --box 1,2,3,4 --class gem --detection 0
explain --detection -1
explain --detection ''
explain --box 4,3,2,1 --class gem
explain --box 1,2,3 --class gem
explain --box nan,1,2,3 --class gem
explain --box 1e39,1,2,3 --class gem
explain --classes ''
explain --layers ''
explain --layers .
explain --layers model..1
explain --save none,overlay,a
explain --fusion sum,mean
explain --batch 0
explain --method effect --layers backbone
explain --method box --budget 5
explain --method layercam --budget 1
explain --method guided --smoothing noise
explain --target keypoint:1 --smoothing aug
explain --target contrast:
explain --target keypoint:\u0663
explain --target keypoint:-1
explain --target keypoint:MANY
explain --engine ray --out memory://a
explain --ray-address 127.0.0.1:9
explain --engine dask
explain --imgsz 0
explain --imgsz 1,2,3
explain --imgsz -32
explain --imgsz 99999999999999999999
explain --imgsz ,
explain --seed -1
explain --seed 4294967296
explain --seed 1.5
explain --opacity 2
explain --colormap none
explain --colormap __class__
explain --every 0
explain --workers 0
explain --workers 99999999999999999999
explain --max-det 0
explain --conf nan
explain --iou inf
explain --overwrite=true
explain --json=1
explain --no-json
explain --verify --verify
explain --conf
explain --co 0.3
explain --c 0.3
explain -h=1
explain -c 0.3
explain -- --conf 0.3
explain --=1
explain --conf 0.3 --conf 0.4
explain --config
explain --config a --config b
explain --print_config=a
explain --device cuda:99999999999999999999
explain --device -1
explain --device CPU
explain --device cpu:1
explain --device ../cpu
explain --nms maybe
explain --nms null
explain --weights ''
explain --weights /
explain --weights /dev/zero
explain --weights http://127.0.0.1:9/a.pt
explain --out ''
explain --out /
explain --out s3://
explain --out ://
explain --out nothing://a
explain --out file:///../../a*
explain --yolov5-repo /
explain --conf.a 1
explain --weights.a 1
explain --source a
explain --conf+ 1
evaluate --methods layercam,layercam
evaluate --methods layercam@:5
evaluate --methods @
evaluate --methods :
evaluate --methods guided:0
evaluate --methods guided:-1
evaluate --methods guided:²
evaluate --limit 0
evaluate --methods guided:MANY
evaluate --methods layercam@a..b
evaluate --kind none --planted
evaluate --planted --data ''
evaluate --data ''
evaluate --out s3://a/b
evaluate --per-image 0
evaluate --data http://127.0.0.1:9/a.yaml
evaluate --split ''
evaluate --data /dev/zero
evaluate --data /
plant --methods layercam@neck
plant --layers ''
plant --epochs 0
plant --class ''
plant --out memory://a
review --map a
review --map a:
review --map :a
review --map a:b:c
review --map a:b,a:c
review --map ,
review --port -1
review --port 65536
review --port 1.5
review --images-dir .
review --against none.pt
review --images-dir none
review --classes ''
review --out ftp://127.0.0.1:9/a
review --method none
report none
report ''
report /
report a b
report --port 99999
report http://127.0.0.1:9/
export --to none
export --to ''
export none --to coco
export --to coco,csv
export --to ../coco
methods --all=1
methods a
methods --js
demo a
demo --out
layers --weights
layers a
bench a b
bench --conf 2
bench --soak=2
run
run --conf 1
run a b
help none
help help
none
--none
--version=1
--config a
explain explain
EXPLAIN
explain --help=a
''
-
--
expl
-h -h
""".strip()
    .replace("MANY", "9" * 5000)
    .splitlines()
)
"""Options that do not fit together or mean nothing, as one types them."""


def contradictions() -> Iterator[Input]:
    """Options that do not fit together, are not there, or come in odd places."""
    for line in CONTRADICTIONS:
        given = [word.replace("''", "") for word in line.split(" ")]
        yield Input(line[:100], partial(_typed, given))


def _typed(given: list[str], folder: Path) -> list[str]:
    command, *rest = given
    return [command, *(right_words(command, folder) if command in COMMANDS else []), *rest]


def values_in_python(seed: int) -> Iterator[Input]:
    """Every field of every configuration with odd values of every type, as a program gives them."""
    random = Random(seed + 2)
    shallow = [(words, value) for words, value in ODD_VALUES.items() if words != DEEP]
    for config in COMMANDS.values():
        hints = get_type_hints(config)
        for item in fields(config):
            for words, value in random.sample(shallow, SHARE):
                if item.name in PATHS and (
                    not isinstance(value, str) or value == HUGE
                ):  # of which the readers of words and files see to
                    continue
                if hints[item.name] == list[str]:
                    value = [odd_words(value)]
                yield Input(f"{config.__name__}({item.name}={words})", partial(_given, config, {item.name: value}))


def _given(config: Any, values: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    return config, {key: 10**4000 if value == HUGE else value for key, value in values.items()}


def calls_in_python(seed: int) -> Iterator[Input]:
    """Options of ``Explainer`` with odd values."""
    names = (
        *("method", "layers", "target", "smoothing", "fusion", "budget", "conf", "iou", "classes", "max_det", "seed"),
        *("verify", "batch", "detection", "box", "class_name", "escalation"),
    )
    for name, (words, value) in itertools.product(names, ODD_VALUES.items()):
        if words != DEEP and Random(f"{seed}{name}{words}").random() < 0.5:
            yield Input(f"Explainer({name}={words})", partial(_given, None, {name: value}))
