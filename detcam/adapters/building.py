"""From a checkpoint's records to its model: the whole file is judged, and only then are objects made, by our own code.

No constructor, ``__reduce__`` or function of the file's choosing is called. A module is an empty object of its
class whose attributes were looked at: modules, parameters and buffers where they belong, plain values elsewhere, no
hooks, and nothing that stands in the way of one of its methods.
"""

from __future__ import annotations

import enum
import functools
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detcam.adapters.archives import Archive, identity_of
from detcam.adapters.pickles import Made, Name, Records, Stored, add_pairs
from detcam.adapters.rebuilding import FUNCTIONS, VALUES, filled_array
from detcam.adapters.stand_ins import Forgotten, Wrapper

OWN_METHODS = ("forward", "forward_fuse", "forward_split")
"""Methods that Ultralytics sets in place of a module's forward pass, and that checkpoints therefore ask for by name."""
DEEPEST = 120
"""Levels of objects and containers in each other; in real checkpoints there are some 40."""
MOST_PATHS = 100_000
"""Modules of a model, each counted as often as it is used."""
_GETATTR = "builtins.getattr"
_PARTS = ("_modules", "_parameters", "_buffers")


def build(path: Path, allow: Callable[[str], Any]) -> Any:
    """What a checkpoint holds, on the CPU.

    Args:
        path: a file of ``torch.save``.
        allow: the dotted name of a class that a file asks for -> the class, a stand-in for it, or None.

    Raises:
        pickle.UnpicklingError: it is damaged, asks for what is not allowed, or calls what is no function of ours.
        OSError: it cannot be read.
    """
    archive = Archive(path)
    found = _judge(archive.records, allow)
    with torch.no_grad():
        return _Builder(archive, found).make(archive.records.value)


def _judge(records: Records, allow: Callable[[str], Any]) -> dict[str, Any]:
    """The classes that a file asks for, by name.

    Raises:
        pickle.UnpicklingError: any of its names or calls is not allowed, or its tensors are more than its memory.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(one.dotted for one in records.names):
        if name in FUNCTIONS or name in VALUES or name == _GETATTR:
            continue
        found[name] = allow(name)
        if found[name] is None:
            raise pickle.UnpicklingError(f"refused GLOBAL {name}")
    tensors = 0
    for made in records.made:
        name = made.maker.dotted
        if name in FUNCTIONS or name == _GETATTR or _is_stand_in(found.get(name)):
            tensors += "tensor" in name and _count(made)
        elif not isinstance(found.get(name), type) or not (made.is_new or _is_called(found[name])):
            raise pickle.UnpicklingError(f"refused CALL {name.rpartition('.')[2]}")
    memory = {key: count for key, _, count in map(identity_of, records.stored)}
    if tensors > 2 * sum(memory.values()) + 1_000_000:
        raise pickle.UnpicklingError("corrupt: its tensors have more numbers than its memory")
    return found


def _count(made: Made) -> int:
    """How many numbers a tensor says it has, as far as it can be told."""
    count = 1
    for length in made.arguments[2] if len(made.arguments) > 2 and isinstance(made.arguments[2], tuple) else ():
        count *= length if type(length) is int and 0 <= length < 2**62 else 1
    return count


def _is_stand_in(kind: Any) -> bool:
    return kind is Forgotten or kind is Wrapper


def _is_called(kind: Any) -> bool:
    """Whether checkpoints call a class: an enumeration with a value, a namespace with nothing."""
    return issubclass(kind, enum.Enum) or kind.__name__ == "IterableSimpleNamespace"


class _Builder:
    """Makes objects of records, each once."""

    def __init__(self, archive: Archive, found: dict[str, Any]) -> None:
        self.archive, self.found = archive, found
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []  # records stay alive, so that their ids stay theirs
        self.open: set[int] = set()
        self.paths: dict[int, int] = {}

    def make(self, record: Any) -> Any:
        """The object of a record."""
        kind = type(record)
        if kind in (str, int, float, bool, bytes, bytearray, type(None)):
            return record
        if id(record) in self.done:
            return self.done[id(record)]
        if id(record) in self.open or len(self.open) > DEEPEST:
            how = "holds itself" if id(record) in self.open else f"is nested deeper than {DEEPEST} levels"
            raise pickle.UnpicklingError(f"corrupt: something in it {how}")
        self.open.add(id(record))
        made = self._make(record, kind)
        self.open.remove(id(record))
        self.done[id(record)] = made
        self.kept.append(record)
        return made

    def _make(self, record: Any, kind: type) -> Any:
        if kind is Stored:
            return self.archive.memory_of(record)
        if kind is Name:
            return VALUES.get(record.dotted, Forgotten())  # a class kept as a value: nothing here calls it
        if kind is dict:
            return {key: self.make(value) for key, value in record.items()}
        if kind in (list, tuple):
            return kind([self.make(value) for value in record])
        if kind in (set, frozenset):
            return kind(record)
        name = record.maker.dotted
        if name == _GETATTR:
            return self._member(record)
        if name in FUNCTIONS:
            return self._call(record, name)
        found = self.found[name]
        if found is Forgotten:
            return Forgotten()
        if found is Wrapper:
            return self._wrapper(record)
        if issubclass(found, enum.Enum):
            return found(*[self.make(value) for value in record.arguments])
        return self._object(record, found)

    def _call(self, record: Made, name: str) -> Any:
        """What one of our own functions gives, and what is put in it."""
        if record.keywords:
            raise pickle.UnpicklingError(f"refused CALL {name.rpartition('.')[2]}")
        result = FUNCTIONS[name](*[self.make(value) for value in record.arguments])
        if isinstance(result, np.ndarray) and record.states:
            return filled_array(self.make(record.states[-1]))
        if isinstance(result, dict):
            add_pairs(result, [(key, self.make(value)) for key, value in record.pairs])
        elif isinstance(result, list):
            result.extend(self.make(value) for value in record.elements)
        return result

    def _member(self, record: Made) -> Any:
        """A member of an enumeration; the forward pass of a module is looked at where it is set."""
        owner, name = record.arguments if len(record.arguments) == 2 else (None, None)
        kind = self.found.get(owner.dotted) if type(owner) is Name else None
        if kind is Forgotten or (type(owner) is Made and self.found.get(owner.maker.dotted) is Forgotten):
            return Forgotten()
        if (
            isinstance(kind, type)
            and issubclass(kind, enum.Enum)
            and isinstance(name, str)
            and name in kind.__members__
        ):
            return kind[name]
        raise pickle.UnpicklingError("refused CALL getattr")

    def _wrapper(self, record: Made) -> Wrapper:
        """A module around a model, of which nothing but the model is kept."""
        arguments = [self.make(value) for value in record.arguments]
        inner = arguments[0] if arguments and isinstance(arguments[0], nn.Module) else None
        for state in record.states:
            modules = self.make(state.get("_modules", {})) if isinstance(state, dict) else {}
            inner = next((modules[name] for name in ("module", "_orig_mod") if name in modules), inner)
        return Wrapper.around(inner)

    def _object(self, record: Made, kind: type) -> Any:
        """An empty object of a class, filled."""
        if record.arguments or record.keywords or record.pairs or record.elements or len(record.states) > 1:
            raise pickle.UnpicklingError(f"refused CALL {kind.__name__}")
        state = record.states[0] if record.states else {}
        if type(state) is not dict or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError(f"corrupt: the state of a {kind.__name__} is none")
        filled: dict[str, Any] = {}
        for name, value in state.items():
            if name == "forward" and _is_own_method(value, record, self.found):
                continue
            if not (name == "type" and isinstance(value, str)):  # which Ultralytics and YOLOv5 write on each layer
                _check_attribute(kind, name)
            filled[name] = self.make(value)
        made = object.__new__(kind) if issubclass(kind, nn.Module) else kind.__new__(kind)
        if isinstance(made, nn.Module):
            self.paths[id(made)] = self._check_parts(filled, kind)
            _restore(made, filled)
        else:
            vars(made).update(filled)
        if _is_own_method(state.get("forward"), record, self.found):
            vars(made)["forward"] = getattr(kind, state["forward"].arguments[1]).__get__(made)
        return made

    def _check_parts(self, state: dict[str, Any], kind: type) -> int:
        """How many modules there are in a module, itself included; its parts are of the right kinds."""
        count = 1
        for name, wanted in zip(_PARTS, (nn.Module, nn.Parameter, Tensor), strict=True):
            parts = state.get(name)
            if not isinstance(parts, dict):
                raise pickle.UnpicklingError(f"corrupt: a {kind.__name__} without {name}")
            state[name] = type(parts)((key, part) for key, part in parts.items() if not isinstance(part, Forgotten))
            for key, part in state[name].items():
                right = isinstance(part, wanted) and not isinstance(part, Wrapper)
                if not isinstance(key, str) or not key or "." in key or not (part is None or right):
                    raise pickle.UnpicklingError(f"corrupt: {name[1:]} of a {kind.__name__}: {str(key)[:40]}")
                count += self.paths.get(id(part), 0) if name == "_modules" else 0
        if count > MOST_PATHS:
            raise pickle.UnpicklingError(f"corrupt: it is more than {MOST_PATHS:,} modules")
        for name, value in state.items():
            empty = isinstance(value, dict) and not value
            hooks = "_hooks" in name and not (empty or isinstance(value, Forgotten))
            if hooks or (name == "_compiled_call_impl" and value is not None):
                raise pickle.UnpicklingError(f"corrupt: a {kind.__name__} with hooks, which checkpoints never have")
        state["training"] = bool(state.get("training") is True)
        return count


def _is_own_method(value: Any, owner: Made, found: dict[str, Any]) -> bool:
    """Whether a record is one of an object's own forward passes, or of its class's.

    Raises:
        pickle.UnpicklingError: it is another module's.
    """
    if type(value) is not Made or value.maker.dotted != _GETATTR:
        return False
    of, name = value.arguments if len(value.arguments) == 2 else (None, None)
    kind = found[owner.maker.dotted]
    own = of is owner or (type(of) is Name and found.get(of.dotted) is kind)
    if own and isinstance(name, str) and name in OWN_METHODS and callable(inspect.getattr_static(kind, name, None)):
        return True
    raise pickle.UnpicklingError("refused CALL getattr: the forward pass of another module")


@functools.cache
def _check_attribute(kind: type, name: str) -> None:
    """Refuse an attribute that would stand in the way of a method."""
    known = inspect.getattr_static(kind, name, None)
    method = isinstance(known, classmethod | staticmethod | type) or (
        callable(known) and not isinstance(known, nn.Module)
    )
    if name.startswith("__") or method:
        raise pickle.UnpicklingError(f"corrupt: the attribute {name[:40]} of a {kind.__name__} is in a method's place")


def _restore(module: nn.Module, state: dict[str, Any]) -> None:
    """Fill a module as its own class does, which mends what older releases left out."""
    vars(module).update(training=False)
    known: Any = next(one for one in type(module).__mro__ if "__setstate__" in vars(one))
    if not known.__module__.startswith(("torch.nn.modules.", "ultralytics.nn.modules.")):
        known = nn.Module
    known.__setstate__(module, state)
