"""A pickle read as data: its program is stepped through, and what it would call is written down.

A pickle is a program for a stack machine. Here `pickletools.genops`, which decodes and runs
nothing, gives its instructions, and a machine of our own follows those that torch.save writes. A
name is a `Name` and nothing more; an object, or the result of a call, is a record `Made` of what
would have been called and with which arguments; storages are records of where their bytes lie. So
there is no value in the machine that could be called, whatever the file says, and the names that
are not allowed are all found, for the message. One name is allowed in one place alone: `getattr`,
where a member of a known enum is called for. Wherever else it leaves the stack, it is refused.

Against files that only mean to fill memory: there is no instruction here that makes more than
what the file holds, dictionary keys are plain (a deeply nested key would overflow the stack when
hashed), and places in the memo are entries of a dictionary, not an array's length.
"""

from __future__ import annotations

import itertools
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

from dawin_ray.models.convert.allowed import GETATTR, MEMBERS, Name

KEYS = (str, int, float, bytes, type(None), Name)  # of dictionaries

# instructions whose value is their own argument
VALUES = (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

NEW = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}  # a set is a list of its items

# what a damaged program makes of the machine
FAULTS = (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error)


class ProgramError(ValueError):
    """Why a pickle cannot be read, in words for a message."""


@dataclass(eq=False)
class Made:
    """An object that was not made: what would have been called, with what, and its state."""

    what: Name
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class Storage:
    """Values of one type in a file; `count` in elements, as the pickle says it."""

    type: Name
    key: str
    count: int


@dataclass
class Program:
    """One pickle of a file; `foreign` are the names in it that are not allowed."""

    foreign: list[str] = field(default_factory=list)
    _stack: list[Any] = field(default_factory=list)
    _marks: list[list[Any]] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    def run(self, stream: IO[bytes]) -> Any:
        """What the pickle at the stream's place describes; the stream is behind it then.

        Raises:
            ProgramError: it is damaged, or has an instruction that torch.save does not write.
        """
        self._stack, self._marks, self._memo = [], [], {}  # each pickle of a file begins anew
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    self._unused(*self._stack, *itertools.chain.from_iterable(self._marks))
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except ProgramError:
            raise
        except FAULTS as error:
            raise ProgramError(f"its pickle is damaged: {error}") from error
        raise ProgramError("its pickle has no end")

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in CONSTANTS:
            self._stack.append(CONSTANTS[opcode])
        elif opcode in NEW:
            self._stack.append(NEW[opcode]())
        elif (step := self._steps.get(opcode)) is not None:
            step(self, argument)
        else:
            raise ProgramError(f"its pickle has the instruction {opcode}")

    def _ignore(self, argument: Any) -> None:
        """Of the protocol's number, and of how long a frame is."""

    def _push(self, argument: Any) -> None:
        self._stack.append(argument)

    def _put(self, argument: Any) -> None:
        self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    def _global(self, argument: Any) -> None:
        """The name in the instruction, or as two texts on the stack."""
        if argument is None:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, _, name = argument.partition(" ")
        self._stack.append(self._name(module, name))

    def _instance(self, argument: Any) -> None:
        """A call in a form that only Python 2's protocol 0 has."""
        self._global(argument)
        raise ProgramError("its pickle has the instruction INST")

    def _extension(self, argument: Any) -> None:
        """A number of copyreg's table, which stands for a name that is not in the file."""
        self._refuse(f"copyreg extension {argument}")
        self._stack.append(Name("copyreg", f"extension {argument}"))

    def _name(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            raise ProgramError("its pickle names something that is no text")
        found = Name.of(module, name)
        if not found.allowed and found != GETATTR:
            self._refuse(str(found))
        return found

    def _unused(self, *values: Any) -> None:
        """Refuses getattr among what leaves the stack, or is left there: it may only be called."""
        if any(type(value) is Name and value == GETATTR for value in values):
            self._refuse(str(GETATTR))

    def _take(self) -> Any:
        value = self._stack.pop()
        self._unused(value)
        return value

    def _refuse(self, name: str) -> None:
        if name not in self.foreign:
            self.foreign.append(name)

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _items(self) -> list[Any]:
        """What lies above the last mark, which is taken away."""
        items, self._stack = self._stack, self._marks.pop()
        self._unused(*items)
        return items

    def _pop(self, _: Any) -> None:
        self._take()

    def _pop_mark(self, _: Any) -> None:
        self._items()

    def _tuple(self, _: Any) -> None:
        items = self._items()  # which puts another stack in place
        self._stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._items()
        self._stack.append(items)

    def _last(self, count: int) -> None:
        """A tuple of the last `count` values."""
        self._stack.append(tuple(self._take() for _ in range(count))[::-1])

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ProgramError("its pickle appends to what is no list")
        self._stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ProgramError("its pickle sets an item of what is no dictionary")
        target.update(_pairs(items[0::2], items[1::2]))

    def _make(self, count: int) -> None:
        """REDUCE, NEWOBJ and NEWOBJ_EX: a call with `count` arguments of the instruction."""
        *_, arguments = (self._take() for _ in range(count))
        what = self._take()
        if type(what) is not Name or type(arguments) is not tuple:
            raise ProgramError("its pickle calls what is no name")
        self._stack.append(_made(what, arguments))

    def _reduce(self, _: Any) -> None:
        what, arguments = self._stack[-2:]
        if type(what) is Name and what == GETATTR:
            del self._stack[-2:]
            self._stack.append(self._member(arguments))
        else:
            self._make(1)

    def _member(self, arguments: Any) -> Any:
        """What getattr is called for: a member of a known enum, as later Pythons pickle it."""
        if type(arguments) is tuple and len(arguments) == 2:
            enum, name = arguments
            if type(enum) is Name and type(name) is str and name in MEMBERS.get(enum, ()):
                return Made(enum, (name,))
        self._refuse(str(GETATTR))
        return Made(GETATTR, ())

    def _build(self, _: Any) -> None:
        """A state is kept by records of objects; tensors and dictionaries need none."""
        state, target = self._take(), self._stack[-1]
        if type(target) is Made:
            target.state = state
        elif type(target) is not dict:
            raise ProgramError("its pickle gives a state to what is no object")

    def _stored(self, _: Any) -> None:
        """A persistent id: of a storage, or of a class that a legacy file has the source of."""
        found = self._take()
        kind = found[0] if type(found) is tuple and found else None
        if kind == "module" and len(found) == 4 and type(found[1]) is Name:
            self._stack.append(found[1])
            return
        if kind != "storage" or len(found) not in (5, 6) or found[5:] not in ((), (None,)):
            raise ProgramError("its pickle has a persistent id that is no storage's")
        _, of_type, key, _, count = found[:5]
        if type(of_type) is not Name or type(key) is not str or type(count) is not int:
            raise ProgramError("its pickle has a persistent id that is no storage's")
        self._stack.append(Storage(type=of_type, key=key, count=count))

    _steps: ClassVar[dict[str, Callable[[Program, Any], None]]] = {
        **dict.fromkeys(VALUES, _push),
        **dict.fromkeys(("PROTO", "FRAME"), _ignore),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
        **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _global),
        **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _extension),
        **dict.fromkeys(("LIST", "FROZENSET"), _list),
        **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda self, _: self._append(self._items())),
        "REDUCE": _reduce,
        "NEWOBJ": lambda self, _: self._make(1),
        "INST": _instance,
        "MARK": _mark,
        "POP": _pop,
        "POP_MARK": _pop_mark,
        "TUPLE": _tuple,
        "TUPLE1": lambda self, _: self._last(1),
        "TUPLE2": lambda self, _: self._last(2),
        "TUPLE3": lambda self, _: self._last(3),
        "APPEND": lambda self, _: self._append([self._take()]),
        "SETITEM": lambda self, _: self._set_items([self._take(), self._take()][::-1]),
        "SETITEMS": lambda self, _: self._set_items(self._items()),
        "NEWOBJ_EX": lambda self, _: self._make(2),
        "BUILD": _build,
        "BINPERSID": _stored,
    }


def _made(what: Name, arguments: tuple[Any, ...]) -> Any:
    """What a call stands for: a container itself where it is one, else a record."""
    first = arguments[0] if arguments else None
    # the argument itself, which no one else has a use for: copies of copies would fill memory
    if str(what) == "collections.OrderedDict" and type(first) in (type(None), dict):
        return {} if first is None else first
    if str(what) in ("builtins.set", "builtins.frozenset") and type(first) in (type(None), list):
        return [] if first is None else first
    return Made(what, arguments)


def _pairs(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    if not all(isinstance(key, KEYS) for key in keys):
        raise ProgramError("its pickle has a dictionary with keys that are no plain values")
    return dict(zip(keys, values, strict=True))
