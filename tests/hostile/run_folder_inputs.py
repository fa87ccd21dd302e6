"""Run folders as strangers and careless colleagues hand them on: real ones, each damaged in one way."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Damage = Callable[[Path, Path], object]
"""(the run folder, the folder of a victim beside it) -> ignored."""

SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, -(2**70), 10**400, 0.5, 1e308, -0.0, float("nan"), float("inf"), float("-inf"),
    "", "a", "999999999", "nan", "\x00", "\ud800", "../../victim/picture.png", "/etc/passwd", SCRIPT, "{{7*7}}",
    "javascript:alert(1)", "ftp://127.0.0.1:9/a.png", "=1+1", "a\nb\r\nc\u2028", "x" * 300_000,
    [], [[]], {}, [None], [1, "a"],
    {"a": 1}, {"": None}, {"999999999": "a"}, {"0": 0}, {"-1": "a"}, {SCRIPT: SCRIPT}, [{"id": 1}], [[0] * 3] * 3,
)  # fmt: skip
"""Values for any field of JSON."""
_PATCH = {
    "xyxy": [0, 0, 4, 4],
    "flipped": True,
    "control": False,
    "before": 0.5,
    "after": 0.1,
    "place": [0, 1],
    "outside": 1,
}
PATCHES = tuple(
    json.dumps(_PATCH | change)
    for change in (
        {"xyxy": [0, 0, 1e9, 5], "flipped": 1}, {"xyxy": [90, 90, 4, 4]}, {"xyxy": [-9, -9, -4, -4]},
        {"place": ["a", 0]}, {"place": [1e300, 0]}, {"outside": 2}, {"control": "a"}, {"before": None},
    )
)  # fmt: skip
CELLS: tuple[Any, ...] = (
    None, "", "a", SCRIPT, "../../victim/picture.png", "../victim/picture.png#a",
    "/etc/passwd#a", "ftp://127.0.0.1:9/a.png",
    "http://127.0.0.1:9/a.png",
    "s3://bucket/a.png", "{", "[]", "null", "0", "NaN", "{}", '{"original": [0, 0]}', "\x00", "\x00#\x00", "/dev/zero",
    "/dev/stdin", "a" * 100_000, "[" * 100_000,
    '{"original": [1000000, 1000000], "network": [8, 8], "resized": [8, 8], "offset": [0, 0]}',
    '{"original": [30000, 30000], "network": [8, 8], "resized": [8, 8], "offset": [0, 0]}',
    '{"original": [NaN, 2], "network": [8, 8], "resized": [8, 8], "offset": [0, 0]}',
    '{"original": ["2", "2"], "network": [8, 8], "resized": [8, 8], "offset": [0, 0]}',
    '{"original": [2, 2, 2], "network": [8, 8], "resized": [8, 8], "offset": [0, 0]}',
    '{"original": [2, 2], "network": [8, 8], "resized": [8, 8], "offset": [0, 0], "more": [1]}',
    *PATCHES,
    '{"patches": [[0, 0, 1, 1]], "becomes": 5}', '{"score": "a"}', "TP", "Miss", "cause-1", "=cmd|' /C calc'!A0",
)  # fmt: skip
"""Values for a text cell."""
NUMBERS = (
    None,
    0,
    -1,
    1,
    2,
    0.5,
    -0.5,
    1e10,
    -1e10,
    1e38,
    float("nan"),
    float("inf"),
    float("-inf"),
    2**31 - 1,
    -(2**31),
    999_999_999,
)
"""Values for a cell of a number."""
KINDS = (
    pl.String,
    pl.Int8,
    pl.UInt64,
    pl.Float64,
    pl.Boolean,
    pl.Binary,
    pl.Date,
    pl.List(pl.Int64),
    pl.Null,
    pl.Object,
)


def json_damages(file: str, rng: random.Random, each: int) -> Callable[[Path], Iterator[tuple[str, Damage]]]:
    """Every field of a JSON file taken away, or some odd values put there."""

    def generate(base: Path) -> Iterator[tuple[str, Damage]]:
        document = json.loads((base / file).read_text())
        for value in ODD:
            yield f"{file}: {_short(value)}", _json_set(file, (), value)
        for place in _places(document):
            yield f"{file}{list(place)}: none", _json_drop(file, place)
            for value in rng.sample(ODD, each):
                yield f"{file}{list(place)}: {_short(value)}", _json_set(file, place, value)
        yield f"{file}: deep", _write(file, b"[" * 200_000)
        yield f"{file}: deeper within", _write(file, b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
        yield f"{file}: twice", _write(file, (base / file).read_bytes() * 2)
        yield f"{file}: UTF-16", _write(file, (base / file).read_text().encode("utf-16"))

    return generate


def column_damages(file: str, rng: random.Random, each: int) -> Callable[[Path], Iterator[tuple[str, Damage]]]:
    """Every column of a table taken away, of another kind, or with odd values."""

    def generate(base: Path) -> Iterator[tuple[str, Damage]]:
        table = pl.read_parquet(base / file)
        for name, kind in table.schema.items():
            yield f"{file}: no {name}", _table(file, lambda t, name=name: t.drop(name))
            for other in rng.sample(KINDS, max(each // 3, 1)):
                if other is not pl.Object:
                    yield (
                        f"{file}: {name} of {other}",
                        _table(file, lambda t, name=name, other=other: _recast(t, name, other)),
                    )
            for value in rng.sample(NUMBERS if kind.is_numeric() else CELLS, each):
                one = rng.random() < 0.5
                yield f"{file}: {name} {'once ' if one else ''}{_short(value)}", _cells(file, name, value, one)
        yield f"{file}: no columns", _table(file, lambda t: pl.DataFrame())
        yield f"{file}: no rows", _table(file, lambda t: t.clear())
        yield f"{file}: rows twice", _table(file, lambda t: pl.concat([t, t]))
        yield f"{file}: rows reversed", _table(file, lambda t: t.reverse())
        yield f"{file}: a foreign column", _table(file, lambda t: t.with_columns(pl.lit(SCRIPT).alias(SCRIPT)))
        yield f"{file}: a foreign nested column", _table(file, lambda t: t.with_columns(pl.lit([1]).alias("odd")))
        yield f"{file}: many rows of nothing", lambda run, _: _bomb(run / file)

    return generate


def file_damages(base: Path, rng: random.Random, flips: int) -> Iterator[tuple[str, Damage]]:
    """Every file deleted, emptied, cut, changed, and replaced by what is no file of its folder."""
    files = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    for name in files:
        size = (base / name).stat().st_size
        yield f"{name}: deleted", lambda run, _, name=name: (run / name).unlink()
        yield f"{name}: emptied", _write(name, b"")
        for _ in range(2):
            cut = rng.randrange(max(size, 1))
            yield f"{name}: cut at {cut}", lambda run, _, name=name, cut=cut: os.truncate(run / name, cut)
        for _ in range(flips):
            yield f"{name}: flipped", _flip(name, rng.randrange(max(size, 1)), rng.randrange(1, 256))
        yield f"{name}: noise", _write(name, rng.randbytes(200))
        yield f"{name}: a folder", lambda run, _, name=name: _replace(run / name, lambda path: path.mkdir())
        yield f"{name}: a pipe", lambda run, _, name=name: _replace(run / name, os.mkfifo)
        yield (
            f"{name}: a link to nothing",
            lambda run, _, name=name: _replace(run / name, lambda path: path.symlink_to("nothing")),
        )
        yield (
            f"{name}: a link to itself",
            lambda run, _, name=name: _replace(run / name, lambda path: path.symlink_to(path.name)),
        )
        yield (
            f"{name}: a link to a device",
            lambda run, _, name=name: _replace(run / name, lambda path: path.symlink_to("/dev/zero")),
        )
        yield f"{name}: a link elsewhere", _linked(name)
        other = rng.choice(files)
        yield (
            f"{name}: {other}",
            lambda run, _, name=name, other=other: (run / name).write_bytes((run / other).read_bytes()),
        )


def folder_damages(base: Path) -> Iterator[tuple[str, Damage]]:
    """Every folder deleted, a file, a link to a victim's, or one with a stranger's files in it."""
    folders = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_dir())
    for name in [
        *folders,
        *({"report", "heatmaps", "overlays", "causes", ".parts", ".evaluation", "against"} - set(folders)),
    ]:
        yield f"{name}/: deleted", lambda run, _, name=name: _remove(run / name)
        yield f"{name}/: a file", lambda run, _, name=name: _replace(run / name, lambda path: path.write_text("a"))
        yield (
            f"{name}/: a link",
            lambda run, victim, name=name: _replace(run / name, lambda path: path.symlink_to(victim)),
        )
        yield f"{name}/: a link up", lambda run, _, name=name: _replace(run / name, lambda path: path.symlink_to(".."))
        yield f"{name}/: read only", lambda run, _, name=name: (run / name).exists() and (run / name).chmod(0o500)
        yield f"{name}/: a stranger's file", _stranger(name)
        for inside in (
            "pictures",
            ".pictures.partial",
            "index.html",
            "data.js",
            "pictures/thumbs",
            "pictures/images/0.jpg",
        ):
            if name == "report":
                yield f"{name}/{inside}: a link", _inner_link(f"{name}/{inside}")


def map_damages(base: Path, rng: random.Random) -> Iterator[tuple[str, Damage]]:
    """Maps of other shapes and kinds, and headers that promise more than there is."""
    names = sorted(path.name for path in (base / "heatmaps").iterdir())
    small, ones = np.float16, np.ones((4, 4), np.float16)
    arrays: dict[str, Any] = {
        "0-d": small(1), "1-d": np.zeros(9, small), "3-d": np.zeros((2, 2, 2), small), "empty": np.zeros((0, 4), small),
        "NaN": ones * small(np.nan), "infinite": ones * small(np.inf), "complex": np.ones((4, 4), complex),
        "text": np.array([["a", "b"]]), "bytes": np.array([[b"a"]]), "truth": np.ones((4, 4), bool),
        "dates": np.zeros((2, 2), "M8[s]"), "int64": np.full((4, 4), 2**62), "float64": np.full((4, 4), 1e300),
        "negative": -ones, "one cell": ones[:1, :1], "a row of many": np.ones((1, 100_000), small),
        "large": np.zeros((20_000, 20_000), small), "records": np.zeros((2, 2), [("a", "f4")]),
        "objects": np.array([[{"a": 1}]], dtype=object), "big-endian": np.ones((4, 4), ">f2"),
        "Fortran": np.asfortranarray(np.ones((4, 6), small)),
    }  # fmt: skip
    for what, array in arrays.items():
        yield f"maps: {what}", lambda run, _, array=array: _maps(run, rng.choice(names), _npy(array))
    for shape in (
        "(1000000, 1000000)",
        "(-1, 4)",
        "(2**40,)",
        "(4, 4, 4, 4, 9999999)",
        "(99999, 99999)",
        "(" + "1," * 5000 + ")",
        "(1.5, 2)",
        "((((((" * 3000,
    ):
        for kind in ("<f2", "|O", "<f8", "[('a', '<f4')]"):
            yield (
                f"maps: {kind} of {shape[:30]}",
                lambda run, _, shape=shape, kind=kind: _maps(run, rng.choice(names), _header(shape, kind)),
            )
    for claimed in (2**31, 2**33):
        yield (
            f"maps: {claimed} zeros in a few bytes",
            lambda run, _, n=claimed: _bomb_maps(run / "heatmaps" / names[0], min(n, 2**31 - 1)),
        )
    yield "maps: no arrays", lambda run, _: _archive(run / "heatmaps" / names[0], {})
    yield (
        "maps: a name that climbs",
        lambda run, _: _archive(run / "heatmaps" / names[0], {"../../victim/picture.png": b"a"}),
    )
    yield "maps: a single .npy", lambda run, _: (run / "heatmaps" / names[0]).write_bytes(_npy(np.ones((3, 3))))


def mixed_damages(bases: list[Path], rng: random.Random, count: int) -> Iterator[tuple[str, Damage]]:
    """Parts of other runs, and several damages at once."""
    for base in bases:
        files = sorted(path.relative_to(base) for path in base.rglob("*") if path.is_file())
        for file in files:
            yield (
                f"{file} of the run of {base.name}",
                lambda run, _, base=base, file=file: _copy(base / file, run / file),
            )
    generators = [
        list(file_damages(bases[1], rng, 1)),
        list(folder_damages(bases[1])),
        list(column_damages("detections.parquet", rng, 3)(bases[1])),
    ]
    for _ in range(count):
        chosen = [rng.choice(rng.choice(generators)) for _ in range(3)]
        yield " and ".join(name for name, _ in chosen), _several([damage for _, damage in chosen])


def _several(damages: list[Damage]) -> Damage:
    def apply(run: Path, victim: Path) -> None:
        for damage in damages:
            try:
                damage(run, victim)
            except (OSError, ValueError, pl.exceptions.PolarsError):  # of what another one damaged already
                continue

    return apply


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from _places(inner, (*at, key))


def _json_set(file: str, place: tuple[Any, ...], value: Any) -> Damage:
    def apply(run: Path, _: Path) -> None:
        holder = [json.loads((run / file).read_text())]
        inner: Any = holder
        for key in (0, *place)[:-1]:
            inner = inner[key]
        inner[(0, *place)[-1]] = value
        (run / file).write_text(json.dumps(holder[0]))

    return apply


def _json_drop(file: str, place: tuple[Any, ...]) -> Damage:
    def apply(run: Path, _: Path) -> None:
        document = inner = json.loads((run / file).read_text())
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
        (run / file).write_text(json.dumps(document))

    return apply


def _table(file: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    return lambda run, _: change(pl.read_parquet(run / file)).write_parquet(run / file)


def _recast(table: pl.DataFrame, name: str, kind: Any) -> pl.DataFrame:
    if isinstance(kind, pl.List):
        return table.with_columns(pl.lit([1, 2]).alias(name))
    try:
        return table.with_columns(pl.col(name).cast(kind, strict=False))
    except pl.exceptions.PolarsError:  # nothing says the same in that kind
        return table.with_columns(pl.lit(None).cast(kind).alias(name))


def _cells(file: str, name: str, value: Any, once: bool) -> Damage:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        kind = table.schema[name]
        if kind.is_nested() or kind == pl.Boolean:
            return table.with_columns(pl.lit(value).alias(name))  # a column of another kind
        literal = pl.lit(value).cast(kind, strict=False)
        if once:
            literal = pl.when(pl.int_range(pl.len()) == 0).then(literal).otherwise(pl.col(name))
        return table.with_columns(literal.alias(name))

    return _table(file, change)


def _write(name: str, data: bytes) -> Damage:
    return lambda run, _: (run / name).write_bytes(data)


def _flip(name: str, place: int, bits: int) -> Damage:
    def apply(run: Path, _: Path) -> None:
        data = bytearray((run / name).read_bytes()) or bytearray(1)
        data[place % len(data)] ^= bits
        (run / name).write_bytes(data)

    return apply


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        _remove(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)


def _remove(folder: Path) -> None:
    """Remove a folder; shutil's own way would be seen as removing files of the working directory."""
    for place, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *folders):
            path = Path(place, name)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if folder.is_dir():
        folder.rmdir()


def _linked(name: str) -> Damage:
    def apply(run: Path, victim: Path) -> None:
        _replace(run / name, lambda path: path.symlink_to(victim / "picture.png"))

    return apply


def _inner_link(name: str) -> Damage:
    def apply(run: Path, victim: Path) -> None:
        _replace(run / name, lambda path: path.symlink_to(victim))

    return apply


def _stranger(name: str) -> Damage:
    def apply(run: Path, _: Path) -> None:
        (run / name).mkdir(exist_ok=True)
        for path in ("index.html", "notes.txt", "pictures/mine.txt", "pictures/thumbs/holiday.jpg"):
            (run / name / path).parent.mkdir(parents=True, exist_ok=True)
            if not (run / name / path).exists():
                (run / name / path).write_text("a stranger's")

    return apply


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def _npy(array: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=True)
    return data.getvalue()


def _header(shape: str, kind: str) -> bytes:
    described = kind if kind.startswith("[") else repr(kind)
    text = f"{{'descr': {described}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + min(len(text), 65535).to_bytes(2, "little") + text[:65535] + b"\0" * 32


def _maps(run: Path, name: str, array: bytes) -> None:
    """Every map of a file in the place of which there are these bytes."""
    path = run / "heatmaps" / name
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    _archive(path, dict.fromkeys(names, array))


def _archive(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _bomb_maps(path: Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    side = int((size / 2) ** 0.5)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(names[0], "w", force_zip64=True) as file,
    ):
        file.write(_header(f"({side}, {side})", "<f2")[:-32])
        for _ in range(64):  # 128 MiB are enough to say that it is too much
            file.write(bytes(2**21))


def _bomb(path: Path) -> None:
    """Many rows that take few bytes: the first one, again and again."""
    table = pl.read_parquet(path)
    table.select(pl.all().gather(pl.int_range(300_000) * 0)).write_parquet(path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}... ({len(text):,})"
