"""Labelled sets as nobody should write them: a right one, in which one thing after another is wrong."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cv2
import numpy as np

from hostile.judging import Input
from hostile.odd_values import BROKEN_TEXTS, DEEP, ODD_VALUES, SURROGATES, damaged, dumped

HEIGHT, WIDTH = 48, 64
GOOD_BOX = (4.0, 5.0, 24.0, 35.0)


class Made(NamedTuple):
    """A set, and what of it has to be read.

    Attributes:
        path: of the set.
        kept: whether the good image's good label has to be there.
        options: of :func:`detcam.data.read_data`.
    """

    path: Path
    kept: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)


@cache
def picture() -> bytes:
    """A PNG of 48 x 64 pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def coco() -> dict[str, Any]:
    """A right set of two images and two labels; the second of each is there to be spoiled."""
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 30], "area": 600, "iscrowd": 0}
    outline = [[4, 5, 24, 5, 24, 35, 4, 35]]
    keypoints = {"keypoints": [5, 6, 2, 7, 8, 1, 0, 0, 0], "num_keypoints": 2}
    image = {"id": 1, "file_name": "good.png", "height": HEIGHT, "width": WIDTH}
    document = {
        "images": [image, {**image, "id": 2, "file_name": "other.png"}],
        "annotations": [
            {**annotation, "segmentation": outline},
            {**annotation, "id": 2, "image_id": 2, "segmentation": outline, "score": 0.5, "ignore": 0, **keypoints},
        ],
        "categories": [{"id": 1, "name": "kite"}, {"id": 2, "name": "gem", "supercategory": "thing"}],
    }
    return json.loads(json.dumps(document))  # in which no list stands in two places


def write_coco(document: Any, folder: Path, kept: bool = False, **options: Any) -> Made:
    """A COCO set on disk."""
    for name in ("good.png", "other.png"):
        (folder / name).write_bytes(picture())
    (folder / "set.json").write_bytes(document if isinstance(document, bytes) else dumped(document))
    return Made(folder / "set.json", kept, options)


def coco_fields() -> Iterator[Input]:
    """Every field of the second annotation, image and category, and these themselves, with every odd value."""
    for kind, (words, value) in itertools.product(("annotations", "images", "categories"), ODD_VALUES.items()):
        for field in (None, "added", *coco()[kind][1]):
            document = coco()
            if field is None:
                document[kind][1] = value
            else:
                document[kind][1][field] = value
            # A category of the good one's id leaves open which of the two is meant.
            deep = words == DEEP or (kind == "categories" and field == "id" and words == "a number as text")
            yield Input(
                f"{kind}: {field or 'one of them'} is {words}",
                partial(write_coco, document, kept=not deep),
                accepted=not deep,
            )


def coco_parts() -> Iterator[Input]:
    """Single numbers of boxes, outlines, run lengths and keypoints."""
    odd = {words: value for words, value in ODD_VALUES.items() if words != DEEP}
    for place, (words, value) in itertools.product(range(4), odd.items()):
        document = coco()
        document["annotations"][1]["bbox"][place] = value
        yield Input(f"bbox[{place}] is {words}", partial(write_coco, document, kept=True), accepted=True)
    for field, (words, value) in itertools.product(("segmentation", "keypoints", "size", "counts"), odd.items()):
        document = coco()
        mark = document["annotations"][1]
        if field == "segmentation":
            mark[field][0][3] = value
        elif field == "keypoints":
            mark[field][4] = value
        else:
            mark["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [10, 20, HEIGHT * WIDTH - 30]}
            mark["segmentation"][field][1] = value
        yield Input(f"a number of {field} is {words}", partial(write_coco, document, kept=True), accepted=True)
    for words, box in BOXES.items():
        document = coco()
        document["annotations"][1]["bbox"] = box
        yield Input(f"bbox: {words}", partial(write_coco, document, kept=True), accepted=True)
    for words, outline in outlines():
        for without_box in (False, True):
            document = coco()
            document["annotations"][1]["segmentation"] = outline
            if without_box:
                del document["annotations"][1]["bbox"]
            name = f"segmentation{', without a box' * without_box}: {words}"
            yield Input(name, partial(write_coco, document, kept=True), accepted=True)


BOXES: dict[str, list[Any]] = {
    "no size": [4, 5, 0, 0],
    "negative": [4, 5, -3, -3],
    "far outside": [1e6, 1e6, 5, 5],
    "all over": [-1e9, -1e9, 2e9, 2e9],
    "beyond float32": [0, 0, 1e39, 1e39],
    "almost beyond float32": [0, 0, 3.4e38, 3.4e38],
    "infinite sum": [1.7e308, 0, 1.7e308, 5],
    "tiny": [4, 5, 1e-300, 1e-300],
    "below float32": [1e7, 5, 1e-3, 1],
    "too few": [1, 2, 3],
    "too many": [1, 2, 3, 4, 5],
    "texts": ["4", "5", "20", "30"],
    "lists": [[4], [5], [20], [30]],
    "401 digits": [10**400, 10**400, 10**400, 10**400],
}


def outlines() -> Iterator[tuple[str, Any]]:
    """Polygons and run lengths that lie."""
    pixels = HEIGHT * WIDTH
    zigzag = [coordinate for i in range(20_000) for coordinate in ((i % 2) * WIDTH, (i * 7 % 5) * HEIGHT / 5)]
    polygons: dict[str, Any] = {
        "no points": [[]],
        "two points": [[1, 2, 3, 4]],
        "an odd count": [[1, 2, 3, 4, 5, 6, 7]],
        "one point often": [[5, 5] * 50],
        "a line": [[1, 1, 5, 5, 9, 9]],
        "far away": [[1e6, 1e6, 1e6, 2e6, 2e6, 2e6]],
        "a flat list": [1, 2, 3, 4, 5, 6],
        "20,000 sides across the image": [zigzag],
        "300,000 points": [[i % 60 for i in range(600_000)]],
        "5,000 polygons": [[1, 1, 9, 1, 9, 9]] * 5000,
        "polygons of everything": [[1, 1, 9, 1, 9, 9], None, "a", {}],
        "numbers of all kinds": [[True, 1, 9.5, 1, 9, "9"]],
        "beyond float32": [[0, 0, 1e39, 0, 1e39, 1e39]],
        "not a number": [[0, 0, float("nan"), 0, 9, 9]],
        "infinite": [[0, 0, float("inf"), 0, 9, 9]],
        "401 digits": [[0, 0, 10**400, 0, 9, 9]],
    }
    yield from polygons.items()
    sizes: list[Any] = [
        [10**9, 10**9], [-HEIGHT, -WIDTH], [WIDTH, HEIGHT], [0, 0], [HEIGHT], [HEIGHT, WIDTH, 1], "4864", None,
        [float(HEIGHT), WIDTH], [True, True], [2**32 + HEIGHT, WIDTH], {"0": 1}, [[HEIGHT], [WIDTH]],
    ]  # fmt: skip
    for size in sizes:
        yield f"run lengths of size {size}", {"size": size, "counts": [pixels]}
        yield f"compressed run lengths of size {size}", {"size": size, "counts": "0`^o"}
    counts: dict[str, Any] = {
        "too few": [10, 20],
        "too many": [pixels, 1],
        "negative": [-5, pixels + 5],
        "fractions": [0.5, pixels - 0.5],
        "beyond 64 bits": [2**64, pixels],
        "401 digits": [10**400],
        "truth values": [True, pixels - 1],
        "texts": ["1", "2"],
        "a hundred thousand": [0] * 100_000,
        "a million lengths that fit": [1, 0] * (pixels // 2) + [pixels // 2 + pixels % 2],
        "nothing": [],
        "a number": 5,
        "an object": {"a": 1},
        "garbage": "\x00\x01\x02",
        "letters": "hello world",
        "not ASCII": "äöü€",
        "a surrogate": "\ud800",
        "breaking off": "oooo",
        "one number of a million characters": "o" * 10**6,
        "one number of a million characters that ends": "o" * 10**6 + "0",
        "a hundred thousand ones": "1" * 100_000,
        "negative compressed": "O" * 20,
        "huge compressed": "ooooooooooooo0" * 10,
        "empty": "",
    }
    for words, value in counts.items():
        yield f"run lengths: {words}", {"size": [HEIGHT, WIDTH], "counts": value}


def documents(seed: int) -> Iterator[Input]:
    """Files that are no sets, and damaged ones."""
    for words, data in BROKEN_TEXTS.items():
        for suffix in (".json", ".yaml"):
            yield Input(f"{suffix}: {words}", partial(_write_file, data, f"set{suffix}"), accepted=False)
    for key, (words, value) in itertools.product(("images", "annotations", "categories"), ODD_VALUES.items()):
        document = {**coco(), key: value}
        yield Input(f"{key} as a whole: {words}", partial(write_coco, document))
    random = Random(seed)
    for words, data in damaged(dumped(coco()), random, 120):
        yield Input(f"COCO, {words}", partial(write_coco, data))
    for words, data in damaged(YOLO.encode(), random, 120):
        yield Input(f"data.yaml, {words}", partial(write_yolo, data, b"0 0.5 0.5 0.4 0.4\n"))


def _write_file(data: bytes, name: str, folder: Path) -> Made:
    for image in ("good.png", "other.png"):
        (folder / image).write_bytes(picture())
    (folder / name).write_bytes(data)
    return Made(folder / name)


YOLO = "path: .\ntrain: images\nval: images\nnc: 2\nnames: {0: kite, 1: gem}\n"
GOOD_LINE = b"0 0.21875 0.4166666666666667 0.3125 0.625\n"


def write_yolo(description: Any, lines: bytes, folder: Path, kept: bool = False, **options: Any) -> Made:
    """A set for Ultralytics on disk: two images, the second of which has the lines as labels."""
    for name in ("good", "other"):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(exist_ok=True)
        (folder / "images" / f"{name}.png").write_bytes(picture())
    (folder / "labels" / "good.txt").write_bytes(GOOD_LINE)
    (folder / "labels" / "other.txt").write_bytes(lines)
    (folder / "data.yaml").write_bytes(description if isinstance(description, bytes) else dumped(description))
    return Made(folder / "data.yaml", kept, options)


def yolo() -> dict[str, Any]:
    """A right ``data.yaml``."""
    return {"path": ".", "train": "images", "val": "images", "nc": 2, "names": ["kite", "gem"]}


def yolo_descriptions() -> Iterator[Input]:
    """Every entry of a ``data.yaml`` with every odd value."""
    fields = (
        *("path", "val", "names", "nc", "kpt_shape", "kpt_oks_sigmas", "train", "validation", "flip_idx", "download"),
    )
    line = b"1 0.5 0.5 0.4 0.4\n"
    for field, (words, value) in itertools.product(fields, ODD_VALUES.items()):
        given = {**yolo(), field: value}
        # Of the others, YAML takes no surrogates.
        untouched = field in ("train", "validation", "flip_idx", "download") and words not in (DEEP, *SURROGATES)
        yield Input(f"{field} is {words}", partial(write_yolo, given, line, kept=untouched), accepted=untouched or None)
        if field in ("val", "names", "kpt_shape"):
            given = {**yolo(), field: [value, value]}
            yield Input(f"{field} is a list of {words}", partial(write_yolo, given, line))
        if field == "names":
            given = {**yolo(), field: {"0": "kite", "1": value}}
            yield Input(f"a name is {words}", partial(write_yolo, given, line))
            key = words if isinstance(value, list | dict) else str(value)
            given = {**yolo(), field: {key: "kite", "1": "gem"}}
            yield Input(f"a class's number is {words}", partial(write_yolo, given, line))
        if field in ("kpt_shape", "kpt_oks_sigmas"):
            given = {**yolo(), "kpt_shape": [3, 3], field: value}
            yield Input(f"{field} is {words}, of keypoints", partial(write_yolo, given, line + b"0 " + b"0.5 " * 13))
    for words, names in NAMES.items():
        given = {name: value for name, value in {**yolo(), "names": names}.items() if name != "nc"}
        yield Input(f"names: {words}", partial(write_yolo, given, line))
    for words, number in (("a thousand million", 10**9), ("five hundred thousand", 500_000), ("401 digits", 10**400)):
        given = {**yolo(), "nc": number}
        del given["names"]
        yield Input(f"nc is {words}, without names", partial(write_yolo, given, line))
        model = {number: f"class {number}" for number in range(80)}
        yield Input(f"nc is {words}, for a model", partial(write_yolo, given, line, names=model))
    given = {**yolo(), "download": "import os; os.system('touch touched')", "val": "nowhere"}
    yield Input("a script to download", partial(write_yolo, given, line), accepted=False)
    for script in ("bash -c 'touch touched'", "http://127.0.0.1:9/set.zip", "https://127.0.0.1:9/set.zip"):
        yield Input(f"to download: {script}", partial(write_yolo, {**given, "download": script}, line), accepted=False)


NAMES: dict[str, Any] = {
    "holes": {"0": "kite", "7": "gem"},
    "negative": {"-1": "kite", "0": "gem"},
    "fractions": {"0.5": "kite", "1.5": "gem"},
    "huge": {str(10**400): "kite", "0": "gem"},
    "the same twice": ["kite", "kite"],
    "the same but for case": ["kite", "Kite", "KITE", "k-ite"],
    "ten thousand": [f"class {number}" for number in range(10_000)],
    "ten thousand that are alike": ["kite"] * 10_000,
    "lists": [["kite"], ["gem"]],
    "everything": [None, True, 1.5, "a\nb", "", " "],
    "words that YAML reads": ["yes", "no", "null", "1e5"],
}

LINES: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b"   \n\t\n",
    "null bytes": b"0 0.5 0.5 0.4 0.4\0\n\0\0\0",
    "binary": bytes(range(256)) * 100,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0",
    "UTF-16": "0 0.5 0.5 0.4 0.4".encode("utf-16"),
    "a byte-order mark": b"\xef\xbb\xbf0 0.5 0.5 0.4 0.4\n",
    "only a class": b"0\n",
    "four values": b"0 0.5 0.5 0.4\n",
    "six values": b"0 0.5 0.5 0.4 0.4 0.9\n",
    "an even outline": b"0 0.1 0.1 0.5 0.1 0.5 0.5 0.9\n",
    "commas": b"0,0.5,0.5,0.4,0.4\n",
    "a comment": b"# labels\n0 0.5 0.5 0.4 0.4 # kite\n",
    "not a number": b"0 nan nan nan nan\n",
    "infinite": b"0 inf inf inf inf\n",
    "minus infinite": b"0 0.5 0.5 -inf 0.4\n",
    "1e39": b"0 1e39 1e39 1e39 1e39\n",
    "1e400": b"0 1e400 0.5 0.5 0.5\n",
    "tiny": b"0 0.5 0.5 1e-320 1e-320\n",
    "401 digits": b"0 0.5 0.5 0.4 " + b"9" * 401 + b"\n",
    "5,000 digits": b"0 0.5 0.5 0.4 " + b"9" * 5000 + b"\n",
    "a class of 401 digits": b"9" * 401 + b" 0.5 0.5 0.4 0.4\n",
    "a class of 5,000 digits": b"9" * 5000 + b" 0.5 0.5 0.4 0.4\n",
    "a class that is a fraction": b"0.5 0.5 0.5 0.4 0.4\n",
    "a class that is no number": b"kite 0.5 0.5 0.4 0.4\n",
    "a negative class": b"-1 0.5 0.5 0.4 0.4\n",
    "a class of 2^63": b"9223372036854775808 0.5 0.5 0.4 0.4\n",
    "a class that is not a number": b"nan 0.5 0.5 0.4 0.4\n",
    "hexadecimal": b"0x0 0x1 0x1 0x1 0x1\n",
    "underscores": b"0 0_5 0_5 0_4 0_4\n",
    "Arabic digits": "\u0660 \u0660.\u0665 \u0660.\u0665 \u0660.\u0664 \u0660.\u0664\n".encode(),
    "pixels": b"0 32 24 10 10\n",
    "negative sizes": b"0 0.5 0.5 -0.4 -0.4\n",
    "no size": b"0 0.5 0.5 0 0\n",
    "a line as an outline": b"0 0.1 0.5 0.5 0.5 0.9 0.5\n",
    "an outline far outside": b"0 -9 -9 9 -9 9 9\n",
    "the same line 50,000 times": b"0 0.5 0.5 0.4 0.4\n" * 50_000,
    "100,000 lines": b"".join(b"0 0.5 0.5 0.4 0.%06d\n" % number for number in range(1, 100_001)),
    "a million lines": b"0 0.5 0.5 0.4 0.5\n0 0.5 0.4 0.4 0.4\n" * 500_000,
    "a million empty lines": b"\n" * 10**6,
    "a line of a million values": b"0 " + b"0.5 " * 10**6 + b"\n",
    "an outline of 20,000 points": b"0 " + b" ".join(b"0.%04d" % (i * 7919 % 10_000) for i in range(40_000)) + b"\n",
    "an outline of 300,000 points": b"0 " + b" ".join(b"0.%04d" % (i * 7919 % 10_000) for i in range(600_000)),
    "a value of a million characters": b"0 0.5 0.5 0.4 0." + b"4" * 10**6 + b"\n",
    "a word of a million characters": b"0 0.5 0.5 0.4 " + b"a" * 10**6 + b"\n",
    "other line ends": b"0 0.5 0.5 0.4 0.4\r0 0.4 0.4 0.4 0.4\x0b0 0.3 0.3 0.2 0.2\x1c0 0.2 0.2 0.1 0.1\n",
    "other spaces": "0\u00a00.5\u20030.5\u30000.4 0.4\n".encode(),
    "seventeen keypoints": b"0 0.5 0.5 0.4 0.4 " + b"0.5 0.5 2 " * 17 + b"\n",
    "keypoints without a shape, and outlines": b"0 0.5 0.5 0.4 0.4 0.5 0.5 2\n0 0.1 0.1 0.5 0.1 0.5 0.5\n",
    "terminal escapes": b"\x1b[2J 0.5 0.5 0.4 0.4\n",
    "a pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
}
"""Label files of which at most the file itself is lost."""
OF_THE_SET = ("seventeen keypoints", "an outline of 20,000 points")
"""Of them, what may be taken for keypoints, so that the set is refused until it says what it means."""


def yolo_lines(seed: int) -> Iterator[Input]:
    """Label files that are wrong, and damaged ones; the other image's are right."""
    for words, data in LINES.items():
        kept = words not in OF_THE_SET
        yield Input(f"lines: {words}", partial(write_yolo, yolo(), data, kept=kept), accepted=True if kept else None)
    random = Random(seed)
    values = [
        *("0", "1", "-1", "0.5", "1.01", "1.02", "nan", "inf", "1e39", "1e-9", "9" * 401, "9" * 5000, "", "a", "0x1"),
        *("1_0", "+.5", "-0", "1e400", "٣", "\0", "0.5,", "5e-324", "2", "0.1", "0.9", "0.25", "0.75"),
    ]
    for number in range(200):
        lines = [
            " ".join(random.choice(values) for _ in range(random.choice((1, 2, 5, 5, 5, 6, 7, 8, 9, 14, 56))))
            for _ in range(random.choice((1, 3, 20)))
        ]
        given = {**yolo(), **random.choice(({}, {}, {"kpt_shape": [3, 3]}, {"kpt_shape": [17, 2]}))}
        made = partial(write_yolo, given, "\n".join(lines).encode(), kept="kpt_shape" in given)
        yield Input(f"lines of odd values, number {number}", made)
    for words, data in damaged(GOOD_LINE * 3 + b"1 0.1 0.1 0.5 0.1 0.5 0.5\n", random, 120):
        yield Input(f"lines, {words}", partial(write_yolo, yolo(), data, kept=True), accepted=True)


def places() -> Iterator[Input]:
    """Sets on disk that are laid out to trap a reader."""
    for words, (make, kept) in PLACES.items():
        yield Input(words, partial(_laid_out, make, kept))


def _laid_out(make: Callable[[Path], Path | None], kept: bool, folder: Path) -> Made:
    made = write_yolo(yolo(), b"1 0.5 0.5 0.4 0.4\n", folder)
    other = make(folder)
    return Made(other or made.path, kept)


def _replace(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        place = folder / name
        if place.exists():
            place.unlink()
        make(place)

    return change


def _loops(folder: Path) -> None:
    (folder / "images" / "loop").symlink_to(folder / "images")
    (folder / "images" / "above").symlink_to(folder)
    (folder / "images" / "root").symlink_to("/")
    (folder / "labels" / "loop").symlink_to(folder / "labels")


def _itself(place: Path) -> None:
    place.symlink_to(place)


def _coco_with(name: str, prepare: Callable[[Path], Any] = lambda folder: None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        prepare(folder)
        document = coco()
        document["images"][1]["file_name"] = name
        return write_coco(document, folder).path

    return make


def _listing(lines: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "list.txt").write_bytes(b"./images/good.png\n" + lines)
        (folder / "data.yaml").write_bytes(dumped({**yolo(), "val": "list.txt"}))

    return make


def _pipe_in_list(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    _listing(b"./pipe.png\n/dev/zero\n/dev/stdin\n/proc/self/mem\n")(folder)


def _split(**entries: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "data.yaml").write_bytes(dumped({**yolo(), **entries}))

    return make


def _pipe_as(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        return folder / name

    return make


def _many_names(folder: Path) -> Path:
    for number in range(2000):
        (folder / "images" / f"{number}.png").symlink_to(folder / "images" / "good.png")
    return _coco_with("elsewhere/train/17.png")(folder)


def _caches(folder: Path) -> None:
    pickle = BROKEN_TEXTS["a pickle"]
    for name in ("labels.cache", "images.cache", "labels/other.cache", "labels/other.npy", "images/other.npy"):
        (folder / name).write_bytes(pickle)


PLACES: dict[str, tuple[Callable[[Path], Path | None], bool]] = {
    "links in circles": (_loops, True),
    "labels that link to themselves": (_replace("labels/other.txt", _itself), True),
    "an image that links to itself": (_replace("images/other.png", _itself), True),
    "a link of an image's name that leads nowhere": (_replace("images/a.png", lambda p: p.symlink_to("none")), True),
    "labels that are a pipe": (_replace("labels/other.txt", os.mkfifo), True),
    "labels that are a device": (_replace("labels/other.txt", lambda place: place.symlink_to("/dev/zero")), True),
    "labels that are a folder": (_replace("labels/other.txt", Path.mkdir), True),
    "labels of 40 MB": (_replace("labels/other.txt", lambda p: p.write_bytes(b"0 .5 .5 .4 .4\n" * 3_000_000)), True),
    "labels with a hole of 10 GB": (
        _replace("labels/other.txt", lambda p: (p.touch(), os.truncate(p, 10**10))),
        True,
    ),
    "an image that is a pipe": (_replace("images/other.png", os.mkfifo), True),
    "an image that is a device": (_replace("images/other.png", lambda place: place.symlink_to("/dev/zero")), True),
    "an image that is a folder": (_replace("images/other.png", Path.mkdir), True),
    "an image that is text": (_replace("images/other.png", lambda p: p.write_text("an image")), True),
    "an image that is a HEIF": (
        _replace("images/other.png", lambda p: p.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99)),
        True,
    ),
    "an image without pixels": (_replace("images/other.png", lambda p: p.write_bytes(b"")), True),
    "an image cut off": (_replace("images/other.png", lambda p: p.write_bytes(picture()[:40])), True),
    "a set that is a pipe, YAML": (_pipe_as("data.yaml"), False),
    "a set that is a pipe, JSON": (_pipe_as("pipe.json"), False),
    "a set with a hole of 10 GB, JSON": (
        lambda f: (p := f / "a.json", p.touch(), os.truncate(p, 10**10))[0],
        False,
    ),
    "a set with a hole of 10 GB, YAML": (
        lambda f: (p := f / "a.yaml", p.touch(), os.truncate(p, 10**10))[0],
        False,
    ),
    "a set that is a folder": (lambda folder: (p := folder / "a.json", p.mkdir())[0], False),
    "a set that is a folder of folders": (lambda folder: folder, False),
    "the root of the file system": (lambda folder: Path("/"), False),
    "a null byte": (lambda folder: Path("a\0b.json"), False),
    "a name too long": (lambda folder: Path("a" * 5000 + ".json"), False),
    "a pattern": (lambda folder: folder / "**" / "*", False),
    "a pattern without an end": (lambda folder: folder / "[", False),
    "pickled caches": (_caches, True),
    "a list of pipes and devices": (_pipe_in_list, True),
    "a list of addresses": (_listing(b"http://127.0.0.1:9/a.png\ns3://a/b.png\nrtsp://127.0.0.1:9/\ncamera:0\n"), True),
    "a list of long names": (_listing(b"a" * 5000 + b".png\n" + b"./" * 3000 + b"a.png\n"), True),
    "a list of null bytes": (_listing(b"a\0b.png\n\0\n"), True),
    "a list of everything": (_listing(b"/\n..\n.\n~\n*\n[\n./images\n/etc/passwd\n./data.yaml\n./list.txt\n"), True),
    "a list in Latin-1": (_listing(b"\xe4.png\n"), False),
    "a list of 50,000 lines": (_listing(b"./nowhere.png\n" * 50_000), True),
    "a list that is endless": (
        lambda folder: (_split(val="list.txt")(folder), (folder / "list.txt").symlink_to("/dev/zero"))[2:] or None,
        False,
    ),
    "a list that is a pipe": (
        lambda folder: (_split(val="list.txt")(folder), os.mkfifo(folder / "list.txt"))[2:] or None,
        False,
    ),
    "the root as a split": (_split(val="/"), False),
    "the root as a path": (_split(path="/", val="/"), False),
    "processes as a split": (_split(val="/proc"), False),
    "devices as a split": (_split(val="/dev"), False),
    "folders above as a split": (_split(val="../" * 40), False),
    "a split of 5,000 characters": (_split(val="a" * 5000), False),
    "twenty thousand splits": (_split(val=["images"] * 20_000), True),
    "a path of 5,000 characters": (_split(path="a" * 5000), False),
    "a path with a null byte": (_split(path="a\0b"), False),
    "COCO: a pipe as an image": (_coco_with("pipe.png", lambda folder: os.mkfifo(folder / "pipe.png")), True),
    "COCO: a device as an image": (_coco_with("/dev/zero"), True),
    "COCO: a folder as an image": (_coco_with("images"), True),
    "COCO: a long name below folders": (_coco_with("a/" * 2000 + "b.png"), True),
    "COCO: an image of another machine": (_coco_with("/elsewhere/images/other.png"), True),
    "COCO: a name that two thousand links have": (_many_names, True),
    "COCO: the good image again": (_coco_with("./good.png"), False),
    "COCO: the set itself": (_coco_with("set.json"), True),
}


def whole_reviews() -> Iterator[Input]:
    """Sets for the command itself, whose detector knows kites and gems: what is read has to be written, too."""
    for kind, field, words in (
        ("images", "file_name", "5,000 letters"),
        ("images", "file_name", "a lone surrogate"),
        ("images", "file_name", "several lines"),
        ("annotations", "id", "terminal escapes"),
        ("categories", "name", "markup"),
        ("annotations", "bbox", "beyond float32"),
    ):
        document = coco()
        document[kind][1][field] = ODD_VALUES[words]
        yield Input(f"{kind}: {field} is {words}", partial(write_coco, document))
    document = coco()
    document["annotations"][1]["segmentation"] = dict(outlines())["20,000 sides across the image"]
    yield Input("an outline of 20,000 sides across the image", partial(write_coco, document))
    yield Input("lines: binary", partial(write_yolo, yolo(), LINES["binary"]))
    for words in ("an image that is a pipe", "links in circles"):
        make, kept = PLACES[words]
        yield Input(words, partial(_laid_out, make, kept))
