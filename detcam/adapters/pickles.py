"""Read a pickle as inert records: nothing in it is imported, called or filled while it is read.

A class or function that it names becomes a :class:`Name`, an object or the result of a call a :class:`Made`, a tensor's
memory a :class:`Stored`; the rest is plain values. What they mean is judged and built afterwards
(:mod:`detcam.adapters.building`), when the whole file is known.
"""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_BYTES = 64 * 2**20
"""Of a pickle; tensors lie outside of it. The largest checkpoints' are below 2 MiB."""
MOST_OPCODES = 3_000_000
MOST_BITS = 128
"""Of a whole number."""
MOST_KEY = 2**48
"""Of whole numbers as keys: larger ones can be chosen to collide, and a dictionary of them takes hours."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+", re.ASCII)
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


@dataclass(eq=False, slots=True)
class Name:
    """A class or function that a pickle names.

    Attributes:
        dotted: its module and its name.
    """

    dotted: str


@dataclass(eq=False, slots=True)
class Made:
    """An object that a pickle makes.

    Attributes:
        maker: what makes it, as far as the pickle says.
        arguments, keywords: of the call.
        is_new: made by ``__new__`` alone, not by a call.
        states: what it is filled with, in order.
        pairs, elements: what is put into it, as into a dictionary or a list.
    """

    maker: Any
    arguments: Any
    keywords: Any = None
    is_new: bool = False
    states: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    elements: list[Any] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Stored:
    """A tensor's memory, which lies outside of the pickle.

    Attributes:
        identity: what the pickle says of it.
    """

    identity: Any


@dataclass(eq=False, slots=True)
class Records:
    """A pickle, read.

    Attributes:
        value: what it holds.
        names, made, stored: all that were met, used or not, in order.
        end: how many bytes it is long.
    """

    value: Any = None
    names: list[Name] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    end: int = 0


def read_records(data: bytes) -> Records:
    """What a pickle holds, as records and plain values.

    Args:
        data: begins with the pickle; what follows it is not looked at.

    Raises:
        pickle.UnpicklingError: it is damaged, too large, or asks for what no checkpoint does.
    """
    if len(data) > MOST_BYTES:
        raise pickle.UnpicklingError(f"its pickle has {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    reader = _Reader()
    try:
        for count, (opcode, argument, at) in enumerate(pickletools.genops(data)):
            if count > MOST_OPCODES:
                raise pickle.UnpicklingError(f"its pickle has more than {MOST_OPCODES:,} steps")
            if opcode.name == "STOP":
                reader.records.end = (at or 0) + 1
                break
            reader.step(opcode.name, argument)
        reader.records.value = reader.pop()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # whatever a damaged pickle leads to
        raise pickle.UnpicklingError(f"damaged pickle: {type(error).__name__}: {error}") from error
    return reader.records


def is_plain_key(value: Any) -> bool:
    """Whether a value can be a key: hashed, it runs nothing of anybody's.

    Args:
        value: of a record.
    """
    if type(value) is tuple:
        return len(value) <= 8 and all(type(one) is not tuple and is_plain_key(one) for one in value)
    if type(value) is int:
        return abs(value) < MOST_KEY
    return type(value) in (str, bool, bytes, type(None))


def add_pairs(target: dict[Any, Any], pairs: list[tuple[Any, Any]]) -> None:
    """Put pairs of a pickle into a dictionary.

    Args:
        target: changed in place.
        pairs: keys and values.

    Raises:
        pickle.UnpicklingError: a key is no plain value.
    """
    for key, value in pairs:
        _check_key(key)
        target[key] = value


def _check_key(key: Any) -> None:
    if not is_plain_key(key):
        raise pickle.UnpicklingError(f"corrupt: a {type(key).__name__} as a key")


class _Reader:
    """The stack machine of a pickle, with records in the place of objects."""

    def __init__(self) -> None:
        self.records = Records()
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do one step."""
        if opcode in _PLAIN:
            self.stack.append(_plain(argument))
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif (do := _STEPS.get(opcode)) is not None:
            do(self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise pickle.UnpicklingError(f"damaged or odd pickle: {opcode}")

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def pop(self) -> Any:
        """The topmost value, taken off."""
        if not self.stack:
            raise pickle.UnpicklingError("damaged pickle: nothing to take")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, taken off."""
        above, self.stack = self.stack, self.marked.pop()
        return above

    def drop_mark(self, _: Any) -> None:
        self.pop_mark()

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def put(self, index: Any) -> None:
        self.memo[len(self.memo) if index is None else int(index)] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.stack.append(self.memo[int(index)])

    def take(self, _: Any) -> None:
        """POP: a value, or a mark with nothing above it."""
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.marked.pop()

    def tuple_of(self, count: int) -> None:
        parts = tuple(self.pop() for _ in range(count))[::-1]
        self.stack.append(parts)

    def append(self, _: Any) -> None:
        value = self.pop()
        self.extend([value])

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is Made:
            target.elements.extend(values)
        else:
            raise pickle.UnpicklingError(f"damaged pickle: elements for a {type(target).__name__}")

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if len(values) % 2:
            raise pickle.UnpicklingError("damaged pickle: a key without a value")
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if type(target) is dict:
            add_pairs(target, pairs)
        elif type(target) is Made:
            target.pairs.extend(pairs)
        else:
            raise pickle.UnpicklingError(f"damaged pickle: items for a {type(target).__name__}")

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def add_items(self, _: Any) -> None:
        values, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise pickle.UnpicklingError(f"damaged pickle: members for a {type(target).__name__}")
        for value in values:
            _check_key(value)
            target.add(value)

    def frozen_set(self, _: Any) -> None:
        members: set[Any] = set()
        for value in self.pop_mark():
            _check_key(value)
            members.add(value)
        self.stack.append(frozenset(members))

    def dictionary(self, _: Any) -> None:
        values = self.pop_mark()
        self.stack.append({})
        self.set_items(values)

    def name(self, module: Any, kind: Any) -> Name:
        """A record of a name."""
        if not (isinstance(module, str) and isinstance(kind, str)):
            raise pickle.UnpicklingError("damaged pickle: a name that is no text")
        dotted = f"{_PYTHON_2.get(module, module)}.{kind}"
        if not _DOTTED.fullmatch(dotted):
            raise pickle.UnpicklingError(f"damaged pickle: the name {dotted[:80]!r}")
        named = Name(dotted)
        self.records.names.append(named)
        return named

    def global_name(self, argument: str) -> None:
        self.stack.append(self.name(*argument.rsplit(" ", 1)))

    def stack_global(self, _: Any) -> None:
        kind, module = self.pop(), self.pop()
        self.stack.append(self.name(module, kind))

    def make(self, maker: Any, arguments: Any, keywords: Any = None, is_new: bool = False) -> None:
        if type(maker) is not Name or type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"refused CALL {_called(maker)}")
        made = Made(maker, arguments, keywords, is_new)
        self.records.made.append(made)
        self.stack.append(made)

    def reduce(self, _: Any) -> None:
        arguments, maker = self.pop(), self.pop()
        self.make(maker, arguments)

    def new(self, _: Any) -> None:
        arguments, maker = self.pop(), self.pop()
        self.make(maker, arguments, is_new=True)

    def new_with_keywords(self, _: Any) -> None:
        keywords, arguments, maker = self.pop(), self.pop(), self.pop()
        self.make(maker, arguments, keywords, is_new=True)

    def instance(self, argument: str) -> None:
        self.make(self.name(*argument.rsplit(" ", 1)), tuple(self.pop_mark()))

    def object(self, _: Any) -> None:
        maker, *arguments = self.pop_mark()
        self.make(maker, tuple(arguments))

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if type(target) is not Made:
            raise pickle.UnpicklingError(f"damaged pickle: a state for a {type(target).__name__}")
        target.states.append(state)

    def persistent(self, _: Any) -> None:
        identity = self.pop()
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module" and type(identity[1]) is Name:
            self.stack.append(identity[1])  # a class beside its source, as torch saved before 1.6
            return
        self.records.stored.append(Stored(identity))
        self.stack.append(self.records.stored[-1])


def _plain(value: Any) -> Any:
    """A number or text as it is.

    Raises:
        pickle.UnpicklingError: the number is too large.
    """
    if type(value) is int and value.bit_length() > MOST_BITS:
        raise pickle.UnpicklingError(f"a whole number of {value.bit_length():,} bits")
    return value


def _called(maker: Any) -> str:
    """What is called, in a word."""
    while type(maker) is Made:
        maker = maker.maker
    return maker.dotted.rpartition(".")[2] if type(maker) is Name else type(maker).__name__


_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "MARK": _Reader.mark,
    "POP": _Reader.take,
    "POP_MARK": _Reader.drop_mark,
    "DUP": lambda reader, _: reader.stack.append(reader.stack[-1]),
    "MEMOIZE": _Reader.put,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Reader.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Reader.get),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.pop_mark())),
    "LIST": lambda reader, _: reader.push(reader.pop_mark()),
    "DICT": _Reader.dictionary,
    "FROZENSET": _Reader.frozen_set,
    "APPEND": _Reader.append,
    "APPENDS": lambda reader, _: reader.extend(reader.pop_mark()),
    "SETITEM": _Reader.set_item,
    "SETITEMS": lambda reader, _: reader.set_items(reader.pop_mark()),
    "ADDITEMS": _Reader.add_items,
    "GLOBAL": _Reader.global_name,
    "STACK_GLOBAL": _Reader.stack_global,
    "REDUCE": _Reader.reduce,
    "NEWOBJ": _Reader.new,
    "NEWOBJ_EX": _Reader.new_with_keywords,
    "INST": _Reader.instance,
    "OBJ": _Reader.object,
    "BUILD": _Reader.build,
    "BINPERSID": _Reader.persistent,
}
