"""What the JSON documents of a run folder have to look like, checked before anything is made of them.

A shape takes a value and says where it stands, and gives the value back, text without halves of characters; what
is not of the shape is a ``ValueError`` that names the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Shape = Callable[[Any, str], Any]

LARGEST_COUNT = 2**53
LONGEST_TEXT = 100_000
"""Characters."""
MOST_CLASSES = 100_000
"""Of a model; the largest vocabularies that detectors are trained on have some 20,000."""


def text(value: Any, where: str) -> str:
    """Text that any file can hold."""
    if not isinstance(value, str):
        raise ValueError(f"{where} must be text, got {_short(value)}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{where} has {len(value):,} characters")
    return value.encode("utf-8", "backslashreplace").decode()


def count(value: Any, where: str) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"{where} must be a whole number from 0, got {_short(value)}")
    return value


def number(value: Any, where: str) -> float | int:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e300:
        raise ValueError(f"{where} must be a number, got {_short(value)}")
    return value


def share(value: Any, where: str) -> float | int:
    """A number from 0 to 1."""
    if not 0 <= number(value, where) <= 1:
        raise ValueError(f"{where} must lie in [0, 1], got {_short(value)}")
    return value  # type: ignore[no-any-return]


def truth(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false, got {_short(value)}")
    return value


def anything(value: Any, where: str) -> Any:
    """Whatever JSON has; text in it becomes text that any file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {anything(key, where): anything(inner, where) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [anything(inner, where) for inner in value] if isinstance(value, list) else value


def either(shape: Shape) -> Shape:
    """Null, or a shape; a number that is not finite is null."""

    def check(value: Any, where: str) -> Any:
        undefined = value is None or (isinstance(value, float) and not math.isfinite(value))
        return None if undefined else shape(value, where)

    return check


def listed(shape: Shape, least: int = 0, most: int | None = None) -> Shape:
    """A list, all of one shape."""

    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= (len(value) if most is None else most):
            size = f" of {least}" if least and least == most else ""
            raise ValueError(f"{where} must be a list{size}, got {_short(value)}")
        return [shape(inner, f"{where}[{place}]") for place, inner in enumerate(value)]

    return check


def mapped(shape: Shape) -> Shape:
    """An object, all of whose values are of one shape."""

    def check(value: Any, where: str) -> dict[str, Any]:
        _require_object(value, where)
        return {text(key, f"a key of {where}"): shape(inner, f"{where}.{key[:40]}") for key, inner in value.items()}

    return check


def record(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object with certain keys; others are let through."""
    shapes = {**required, **(optional or {})}

    def check(value: Any, where: str) -> dict[str, Any]:
        _require_object(value, where)
        for key in required:
            if key not in value:
                raise ValueError(f"{where} has no {key!r}")
        return {
            text(key, f"a key of {where}"): shapes.get(key, anything)(inner, f"{where}.{key[:40]}")
            for key, inner in value.items()
        }

    return check


def class_names(value: Any, where: str) -> dict[str, str]:
    """Names by the classes' numbers, which are keys and so text."""
    names: dict[str, str] = mapped(text)(value, where)
    for key in names:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < MOST_CLASSES):
            raise ValueError(
                f"{where} must have numbers of classes from 0 to {MOST_CLASSES - 1} as keys, got {key!r:.40}"
            )
    return names


def _require_object(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST_COUNT:
        return "a number that is too large"
    return repr(value)[:80]


DESCRIPTION = record(
    {"schema": count, "command": text},
    {
        "configuration": record({}), "state": text, "classes": either(class_names), "unfinished": listed(text),
        "counts": mapped(count), "versions": mapped(text), "started": text, "ended": text,
    },
)  # fmt: skip
"""``run.json``."""
TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SUMMARY = record(
    {
        "images": count, "counts": mapped(count), "dap": mapped(either(number)),
        "per_class": listed(record(
            {"class_name": text, "truths": count, "TP": count, **dict.fromkeys(TYPES, count)},
            {"ap50": either(number)},
        )),
        "confusions": listed(record({"predicted": text, "truth": text, "count": count})),
        "unmapped": listed(record({"class_name": text, "truths": count})),
        "problems": listed(record({"path": text, "reason": text})),
    },
    {
        "map50": either(number), "map": either(number), "matched_by": text, "figures": text,
        "matching_notes": listed(text), "notes": listed(text), "unjudged": mapped(count),
    },
)  # fmt: skip
"""``summary.json`` of a review."""
CAUSES = listed(record({
    "id": text, "name": text, "text": text, "members": listed(text), "confirmed": truth,
    **dict.fromkeys(("tried", "flipped", "pasted", "appeared"), count), "patches": listed(text),
}))  # fmt: skip
"""``causes.json`` of a review."""
FAILURE = record({"path": text, "reason": text})
"""A line of ``errors.jsonl``."""
LETTERBOX = record(dict.fromkeys(("original", "network", "resized", "offset"), listed(number, 2, 2)))
BOX = listed(number, 4, 4)


def _scores(value: Any, where: str) -> dict[str, Any]:
    scores: dict[str, Any] = mapped(number)(value, where)
    if not scores:
        raise ValueError(f"{where} must have a score")
    return scores


RECEIPT = record({
    "score": number, "hot_share": share, **dict.fromkeys(("removed", "removed_random", "box_only"), _scores),
    **dict.fromkeys(("kept", "kept_random", "box_random"), mapped(number)),
    "context_dependence": number, "supported": truth, "forwards": number,
})  # fmt: skip
"""A row's ``receipt``."""
EVIDENCE = record({
    "patches": listed(BOX, 1, 4), "becomes": either(text), "confidence": number, "before": number, "after": number,
    "control": either(number), "outside": share,
})  # fmt: skip
"""A row's ``evidence``."""
PATCH = record({
    "xyxy": BOX, "flipped": truth, "control": truth, "before": number, "after": number,
    "place": listed(number, 2, 2), "outside": share,
})  # fmt: skip
"""A row's ``evidence`` in a review."""
