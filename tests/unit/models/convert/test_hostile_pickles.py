"""Pickles that would run code: each is refused by the name that it asks for, and runs nothing.

Each makes a file, the canary, where it is unpickled; the first tests show that it would.
"""

import copyreg
import functools
import io
import operator
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import InterpolationMode

from dawin_ray.errors import UserError
from dawin_ray.models.checkpoints import read_tensors
from dawin_ray.models.convert.allowed import MEMBERS, Name
from dawin_ray.models.convert.archive import Archive
from dawin_ray.models.convert.convert import convert_checkpoint
from dawin_ray.models.convert.modules import MAX_ENTRIES, Tensors
from dawin_ray.models.convert.program import Program, ProgramError
from tests.unit.models.convert.reference import KINDS, image_encoder, saved


class Call:
    """Unpickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """A pickler asks whether what is called can be."""


def module_with(**attributes):
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].__dict__ |= attributes
    return model


def touch(path):
    return f"touch '{path}'"


def opened(path):
    return f"open({str(path)!r}, 'w').close()"


# what is saved -> the name that it is refused by
CALLS = {
    "os.system": lambda path: (Call(os.system, touch(path)), "posix.system"),
    "in a nested object": lambda path: (
        {"state_dict": {"w": torch.ones(2)}, "a": [{"b": (Call(os.system, touch(path)),)}]},
        "posix.system",
    ),
    "in a module's state": lambda path: (
        module_with(hook=Call(os.system, touch(path))), "posix.system"
    ),
    "in a module's parameters": lambda path: (
        module_with(_parameters={"weight": Call(os.system, touch(path))}), "posix.system"
    ),
    "eval": lambda path: (Call(eval, opened(path)), "builtins.eval"),
    "exec": lambda path: (Call(exec, opened(path)), "builtins.exec"),
    "__import__": lambda path: (
        [Call(__import__, "os"), Call(os.system, touch(path))], "builtins.__import__"
    ),
    "open": lambda path: (Call(open, str(path), "w"), ".open"),
    "getattr chain": lambda path: (
        Call(Call(getattr, Call(__import__, "os"), "system"), touch(path)), "builtins.getattr"
    ),
    "functools.partial": lambda path: (
        Call(functools.partial(os.system, touch(path))), "functools.partial"
    ),
    "operator.attrgetter": lambda path: (
        Call(Call(operator.attrgetter("system"), Call(__import__, "os")), touch(path)),
        "operator.attrgetter",
    ),
    "operator.methodcaller": lambda path: (
        Call(operator.methodcaller("system", touch(path)), Call(__import__, "os")),
        "operator.methodcaller",
    ),
    "map": lambda path: (Call(list, Call(map, os.system, [touch(path)])), "map"),
    "torch.storage": lambda path: (
        Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, touch(path)))),
        "torch.storage._load_from_bytes",
    ),
    "torch.load": lambda path: (
        Call(torch.load, Call(open, str(path), "w")), "torch.serialization.load"
    ),
    "torch.hub": lambda path: (
        [Call(os.system, touch(path)), Call(torch.hub.load, "owner/name", "model")],
        "torch.hub.load",
    ),
    "pickle.loads": lambda path: (
        Call(pickle.loads, pickle.dumps(Call(os.system, touch(path)))), "ickle.loads"
    ),
    "numpy with objects": lambda path: (
        np.array([Call(os.system, touch(path))], dtype=object), "multiarray._reconstruct"
    ),
    "a subclass made by type": lambda path: (
        [Call(type, "Mine", (nn.Module,), {}), Call(os.system, touch(path))],
        "builtins.type",
    ),
    "a state of another object": lambda path: (Stated(path), "Stated"),
}  # fmt: skip


class Stated:
    """Runs when its state is set."""

    def __init__(self, path=None):
        self.path = path

    def __setstate__(self, state):
        os.system(touch(state["path"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS)
def test_a_call_is_refused_by_name_and_not_made(tmp_path, make, kind):
    canary = tmp_path / "canary"
    content, name = make(canary)
    try:
        source = saved(tmp_path / "a.pt", content, kind)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        pytest.fail(f"the test is wrong: {error}")
    refused(source, name, canary)


def refused(source, name, canary):
    with pytest.raises(UserError, match="refused, and nothing in it was run") as caught:
        convert_checkpoint(source, f"{source}.safetensors")
    assert name in str(caught.value)
    with pytest.raises(UserError) as caught:  # a job does not send anyone to convert it
        read_tensors(source)
    assert "dawin-ray convert" not in str(caught.value)
    assert not canary.exists()
    assert not os.path.exists(f"{source}.safetensors")


@pytest.mark.parametrize("name", ["os.system", "eval", "functools.partial", "numpy with objects",
                                  "torch.storage", "a state of another object"])  # fmt: skip
def test_unpickled_it_would_run(tmp_path, name):
    content, _ = CALLS[name](tmp_path / "canary")
    source = saved(tmp_path / "a.pt", content)
    try:
        torch.load(source, weights_only=False)
    except Exception as error:  # noqa: BLE001  (what it loads is no matter)
        print(error)
    assert (tmp_path / "canary").exists()


# Programs that no pickler writes


def archive(tmp_path, program: bytes, storage: bytes = b"\0" * 16) -> str:
    """A file of torch.save with another pickle in it."""
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a/data.pkl", program)
        out.writestr("a/data/0", storage)
    return str(path)


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name_of(module: str, name: str) -> bytes:
    """STACK_GLOBAL, which takes any text."""
    return text(module) + text(name) + b"\x93"


def called(what: bytes, *arguments: bytes) -> bytes:
    return what + b"(" + b"".join(arguments) + b"tR"


DOTTED = {
    "a dotted name": ("torch.nn.modules.module", "os.system"),
    "a dotted module": ("torch.nn.modules.module.os", "system"),
    "a module of open_clip's module": ("open_clip.factory.os", "system"),
    "a function of an allowed module": ("torch.nn.modules.module", "register_module_forward_hook"),
    "a module in an allowed module": ("open_clip.factory", "os"),
    "a class's method": ("torch.nn.modules.module", "Module.__init__"),
    "a class's attribute": ("collections", "OrderedDict.__class__"),
    "a name split elsewhere": ("torch", "_utils._rebuild_tensor_v2"),
    "another module that begins so": ("torch.nn.modulesx.linear", "Linear"),
    "below modeling": ("src.modeling.os", "System"),
    "another alphabet": ("torch.nn.modules.linear", "Line\u0430r"),  # a Cyrillic a
    "torch's own code": ("torch.jit", "load"),
    "no module": ("", "eval"),
    "a module's loader": ("torch.nn.modules.module", "__loader__"),
}


@pytest.mark.parametrize(("module", "name"), DOTTED.values(), ids=DOTTED)
def test_names_are_compared_whole(tmp_path, module, name):
    program = b"\x80\x04" + called(name_of(module, name), text("x")) + b"."
    refused(archive(tmp_path, program), f"{module}.{name}", tmp_path / "canary")


def old(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


TRICKS = {
    "persistent id": (
        lambda run: b"((" + text("storage") + run + text("0") + text("cpu") + b"K\x04tQ",
        "posix.system",
    ),
    "persistent id's key": (
        lambda run: b"(" + text("storage") + old("torch", "FloatStorage") + run + text("cpu")
        + b"K\x04tQ",
        "posix.system",
    ),
    "hidden by POP": (lambda run: run + b"0N", "posix.system"),
    "in the memo alone": (lambda run: run + b"q\x050N", "posix.system"),
    "as a dictionary's key": (lambda run: b"}" + run + b"K\x01s", "posix.system"),
    "INST": (lambda run: b"(" + text("x") + b"iposix\nsystem\n", "posix.system"),
    "OBJ": (lambda run: b"(" + old("posix", "system") + text("x") + b"o", "posix.system"),
    "EXT1": (lambda run: b"\x82\xf0(" + text("x") + b"tR", "copyreg extension 240"),
    "EXT2": (lambda run: b"\x83\xf0\xf0(" + text("x") + b"tR", "copyreg extension"),
    "EXT4": (lambda run: b"\x84\xf0\xf0\xf0\x00(" + text("x") + b"tR", "copyreg extension"),
    "NEWOBJ": (
        lambda run: old("subprocess", "Popen") + text("x") + b"\x85\x81", "subprocess.Popen"
    ),
    "NEWOBJ_EX": (
        lambda run: old("subprocess", "Popen") + text("x") + b"\x85}\x92", "subprocess.Popen"
    ),
    "copyreg's reconstructor": (
        lambda run: called(old("copy_reg", "_reconstructor"), old("os", "system"), b"N", b"N"),
        "copyreg._reconstructor, os.system",
    ),
    "BUILD of a class": (
        lambda run: old("torch.nn.modules.linear", "Linear") + b"}" + text("forward") + run + b"sb",
        "posix.system",
    ),
    "__setstate__ in a state": (
        lambda run: old("torch.nn.modules.linear", "Linear") + b")\x81}" + text("__setstate__")
        + old("posix", "system") + b"sb" + text("x") + b"b",
        "posix.system",
    ),
    "__reduce__ in a state": (
        lambda run: old("torch.nn.modules.linear", "Linear") + b")\x81N}" + text("__class__")
        + old("builtins", "eval") + b"s\x86b",
        "builtins.eval",
    ),
    "after what is read": (lambda run: b"N." + run, None),
}  # fmt: skip


@pytest.mark.parametrize(("make", "name"), TRICKS.values(), ids=TRICKS)
def test_tricks_of_the_program_are_refused_by_name(tmp_path, make, name):
    canary = tmp_path / "canary"
    run = called(old("posix", "system"), text(touch(canary)))
    source = archive(tmp_path, b"\x80\x02" + make(run) + b".")
    if name is None:  # it is never reached, by anybody
        with pytest.raises(UserError, match="holds no tensors"):
            convert_checkpoint(source, f"{source}.safetensors")
        assert not canary.exists()
    else:
        refused(source, name, canary)


# Members of enums, as Python before 3.11.4 pickles them

ENUM = ("torchvision.transforms.functional", "InterpolationMode")


def got(*, enum=ENUM, name="BICUBIC", by=("builtins", "getattr")) -> bytes:
    return name_of(*by) + name_of(*enum) + text(name) + b"\x86R"


@pytest.mark.parametrize(
    "program",
    [
        got(),
        got(by=("__builtin__", "getattr")),
        got(name="NEAREST_EXACT"),
        old("__builtin__", "getattr") + b"(" + old(*ENUM) + text("BICUBIC") + b"tR",
        # from the memo, as of a second member of a file
        name_of("builtins", "getattr") + b"\x94" + name_of(*ENUM) + b"\x94" + text("BOX")
        + b"\x94\x86\x94R\x940h\x00h\x01" + text("BICUBIC") + b"\x86R",
    ],
    ids=["4", "2", "another", "with marks", "twice"],
)  # fmt: skip
def test_a_member_of_the_enum_of_preprocessings_is_read(tmp_path, program):
    values = struct.pack("<4f", 1, 2, 3, 4)
    both = b"\x80\x04}(" + text("mode") + program + text("w") + tensor((4,), (1,)) + b"u."
    source = archive(tmp_path, both, values)
    made = Archive(Path(source).read_bytes(), source).content["mode"]
    assert str(made.what) == ".".join(ENUM)
    assert made.arguments in (("BICUBIC",), ("NEAREST_EXACT",))
    convert_checkpoint(source, f"{source}.safetensors")
    assert read_tensors(f"{source}.safetensors")["w"].tolist() == [1, 2, 3, 4]


def test_members_are_those_of_torchvision():
    assert {str(enum) for enum in MEMBERS} == {".".join(ENUM)}
    assert MEMBERS[Name(*ENUM)] == set(InterpolationMode.__members__)


GETATTR = name_of("builtins", "getattr")

LINEAR = ("torch.nn.modules.linear", "Linear")

# getattr, where it is not the call of such a member
OTHER_CALLS = {
    "another attribute of the enum": got(name="__class__"),
    "a member's neighbour": got(name="BICUBIC.__class__"),
    "another class": got(enum=LINEAR, name="BICUBIC"),
    "another enum": got(enum=("torchvision.transforms.v2", "InterpolationMode")),
    "of a member": GETATTR + got() + text("__class__") + b"\x86R",
    "with a default": GETATTR + name_of(*ENUM) + text("BICUBIC") + b"N\x87R",
    "with one argument": GETATTR + name_of(*ENUM) + b"\x85R",
    "its name no text": GETATTR + name_of(*ENUM) + b"C\x07BICUBIC\x86R",
    "arguments no tuple": GETATTR + b"]" + b"R",
    "NEWOBJ": GETATTR + name_of(*ENUM) + text("BICUBIC") + b"\x86\x81",
    "NEWOBJ_EX": GETATTR + name_of(*ENUM) + text("BICUBIC") + b"\x86}\x92",
    "itself": GETATTR,
    "left on the stack": GETATTR + b"N",
    "left below a mark": GETATTR + b"(N",
    "as an argument": name_of(*LINEAR) + GETATTR + b"\x85R",
    "as its own argument": GETATTR + GETATTR + text("BICUBIC") + b"\x86R",
    "hidden by POP": GETATTR + b"0N",
    "hidden by POP_MARK": b"(" + GETATTR + b"1N",
    "in a list": b"]" + GETATTR + b"a",
    "in a list with a mark": b"](" + GETATTR + b"e",
    "as an item": b"}" + text("a") + GETATTR + b"s",
    "as a key": b"}" + GETATTR + text("a") + b"s",
    "as a state": name_of(*LINEAR) + b")\x81" + GETATTR + b"b",
    "as a persistent id": GETATTR + b"Q",
    "behind a member": got() + b"0" + GETATTR,
}


@pytest.mark.parametrize("program", OTHER_CALLS.values(), ids=OTHER_CALLS)
def test_getattr_is_refused_wherever_else_it_stands(tmp_path, program):
    source = archive(tmp_path, b"\x80\x04" + program + b".")
    refused(source, "builtins.getattr", tmp_path / "canary")


def test_an_extension_that_is_registered_and_cached_is_refused_all_the_same(tmp_path):
    copyreg.add_extension("os", "system", 240)
    try:
        canary = tmp_path / "canary"
        program = b"\x80\x02\x82\xf0(" + text(touch(canary)) + b"tR."
        pickle.loads(program)  # noqa: S301  (it is ours)
        assert canary.exists()
        canary.unlink()
        refused(archive(tmp_path, program), "copyreg extension 240", canary)
    finally:
        copyreg.remove_extension("os", "system", 240)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("protocol", range(6))
def test_a_raw_pickle_is_refused(tmp_path, protocol):
    for content in ({"w": 1}, image_encoder().model.visual.ln_pre, Call(os.getcwd)):
        (tmp_path / "a.pt").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError, match=r"a raw pickle|refused|cannot be read|is a text"):
            convert_checkpoint(str(tmp_path / "a.pt"), str(tmp_path / "out.safetensors"))
        assert not (tmp_path / "out.safetensors").exists()


def test_every_name_that_is_asked_for_is_told(tmp_path):
    content = [Call(eval, "1"), Call(os.getcwd), {"a": Call(operator.add, 1, 2)}]
    source = saved(tmp_path / "a.pt", content)
    refused(source, "builtins.eval, posix.getcwd, _operator.add", tmp_path / "canary")


def test_no_name_of_a_file_is_imported(tmp_path):
    program = b"\x80\x02" + called(old("open_clip.antigravity", "This"), text("x")) + b"."
    before = set(sys.modules)
    Archive(Path(archive(tmp_path, program)).read_bytes(), "a.pt")
    assert set(sys.modules) == before


# Files that mean to fill memory


def tensor(size, stride, offset=0, count=4, of="FloatStorage") -> bytes:
    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", v) for v in values) + b"t"

    storage = (
        b"(" + text("storage") + old("torch", of) + text("0") + text("cpu")
        + b"\x8a\x08" + struct.pack("<q", count) + b"tQ"
    )  # fmt: skip
    return (
        old("torch._utils", "_rebuild_tensor_v2") + b"(" + storage
        + b"\x8a\x08" + struct.pack("<q", offset) + numbers(size) + numbers(stride)
        + b"\x89" + old("collections", "OrderedDict") + b")RtR"
    )  # fmt: skip


def holding(item: bytes) -> bytes:
    return b"\x80\x02}" + text("w") + item + b"s."


def holding_many(item: bytes, count: int) -> bytes:
    return b"\x80\x02}(" + b"".join(text(f"w{i}") + item for i in range(count)) + b"u."


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        ((1 << 36,), (0,), "needs more than the 4 values"),
        ((2, 2), (4, 1), "needs more than the 4 values"),
        ((5,), (1,), "needs more than the 4 values"),
        ((2, 2), (1,), "no shape"),
        ((-1,), (1,), "no shape"),
        ((1 << 62,), (0,), "no shape"),
        ((0, 1 << 39, 1 << 39), (1, 1, 1), "has the shape"),
    ],
)
def test_a_tensor_that_is_more_than_its_storage_is_refused(tmp_path, size, stride, message):
    source = archive(tmp_path, holding(tensor(size, stride)))
    with pytest.raises(UserError, match=message):
        convert_checkpoint(source, f"{source}.safetensors")


@pytest.mark.parametrize(
    "item",
    [
        tensor((2,), (1,), offset=3),
        tensor((2,), (1,), offset=-1),
        tensor((2,), (1,), count=5),
        tensor((2,), (1,), count=1 << 60),
        tensor((2,), (1,), of="DoubleStorage"),
    ],
)
def test_a_storage_that_is_not_what_it_says_is_refused(tmp_path, item):
    source = archive(tmp_path, holding(item))
    with pytest.raises(UserError, match="cannot be read without running it"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_the_same_tensor_in_bounds_is_read(tmp_path):
    values = struct.pack("<4f", 1, 2, 3, 4)
    source = archive(tmp_path, holding(tensor((2, 2), (1, 2))), values)
    convert_checkpoint(source, f"{source}.safetensors")
    assert read_tensors(f"{source}.safetensors")["w"].tolist() == [[1, 3], [2, 4]]


def test_many_names_of_one_storage_are_not_written_out(tmp_path):
    one = tensor((4,), (1,))
    source = archive(
        tmp_path, b"\x80\x02}(" + b"".join(text(f"w{i}") + one for i in range(9)) + b"u."
    )
    with pytest.raises(UserError, match="many times the bytes of the file"):
        convert_checkpoint(source, f"{source}.safetensors")


def module(name: bytes, child: bytes) -> bytes:
    """A module with one child that is put in after it is in the memo at `name`."""
    return (
        old("torch.nn.modules.module", "Module") + b")\x81q" + name
        + b"}" + text("_modules") + b"}" + text("a") + child + b"ssb"
    )  # fmt: skip


def test_a_module_in_itself_is_refused(tmp_path):
    source = archive(tmp_path, b"\x80\x02" + module(b"\x01", b"h\x01") + b".")
    with pytest.raises(UserError, match="lies in itself"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_a_dictionary_in_itself_is_refused(tmp_path):
    source = archive(tmp_path, b"\x80\x02}q\x01" + text("a") + b"h\x01s.")
    with pytest.raises(UserError, match="lies in itself"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_modules_that_double_at_each_level_are_refused(tmp_path):
    program = old("torch.nn.modules.module", "Module") + b")\x81}" + text("_modules") + b"}sb"
    for level in range(40):
        child = b"r" + struct.pack("<I", level)
        again = b"j" + struct.pack("<I", level)
        program += child + old("torch.nn.modules.module", "Module") + b")\x81}" + text("_modules")
        program += b"}(" + text("a") + again + text("b") + again + b"usb"
    source = archive(tmp_path, b"\x80\x02" + program + b".")
    with pytest.raises(UserError, match=f"more than {MAX_ENTRIES} modules"):
        convert_checkpoint(source, f"{source}.safetensors")


@pytest.mark.parametrize(
    "program",
    [
        b"N" + b"\x85" * 200_000 + b"K\x01s.",  # a key so deep that its hash would overflow
        b"}N" + b"\x85" * 200_000 + b"K\x01s.",
        b"N" + b"\x85" * 200_000 + b".",
        b"Nr\xff\xff\xff\xff.",  # the last place of the memo
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a text of 8 EB
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",  # an integer of 2 GB
        b"I" + b"9" * 100_000 + b"\n.",
        b"(" * 100_000 + b".",
        b"2.",
        b"",
        b"\x80\x02",
    ],
)
def test_programs_that_mean_to_break_the_machine_end_with_a_message(tmp_path, program):
    source = archive(tmp_path, program)
    with pytest.raises(UserError, match=r"a\.pt"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_deep_modules_are_refused(tmp_path):
    inner = old("torch.nn.modules.module", "Module") + b")\x81}" + text("_modules") + b"}sb"
    for _ in range(2_000):
        inner = (
            old("torch.nn.modules.module", "Module") + b")\x81}" + text("_modules") + b"}"
            + text("a") + inner + b"ssb"
        )  # fmt: skip
    source = archive(tmp_path, b"\x80\x02" + inner + b".")
    with pytest.raises(UserError, match="nested more than"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_a_head_without_tensors_is_refused(tmp_path):
    source = saved(tmp_path / "a.pt", nn.Identity())
    with pytest.raises(UserError, match="holds no tensors by name"):
        convert_checkpoint(source, f"{source}.safetensors")


def test_each_instruction_is_followed_or_refused(tmp_path):
    """None that Python knows makes anything else than a step or a message."""
    for opcode in pickletools.opcodes:
        program = Program()
        data = b"\x80\x02" + opcode.code.encode("latin-1") + b"a\nb\n" + b"\0" * 20 + b"."
        try:
            program.run(io.BytesIO(data))
        except ProgramError:
            continue


def test_walking_keeps_nothing_of_the_file_alive(tmp_path):
    """Tensors stay readable when the archive is gone: they hold their bytes themselves."""
    source = saved(tmp_path / "a.pt", {"w": torch.arange(5.0)})
    one = Archive(Path(source).read_bytes(), source)
    found = Tensors(one).of(one.content)
    del one
    assert found["w"].tolist() == [0, 1, 2, 3, 4]
