"""MAT-files of level 5, against scipy's; damaged ones say so and take no memory."""

import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from dawin_ray.data.matlab import MatError, numbers, planes, structs, variables
from tests.unit.data.layouts import write_cars

MOST = 10_000


def saved(arrays, *, compressed=True) -> io.BytesIO:
    stream = io.BytesIO()
    savemat(stream, arrays, do_compression=compressed)
    return stream


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_of_every_type_are_those_that_scipy_reads(dtype, compressed):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    stream = saved({"first": [1, 2, 3], "a": values, "last": "text"}, compressed=compressed)
    found = variables(stream)
    assert list(found) == ["first", "a", "last"]
    assert found["a"].shape == values.shape
    read = numbers(stream, found["a"], MOST)
    assert np.array_equal(read.reshape(values.shape, order="F"), loadmat(stream)["a"])


def big_endian_double(name: bytes, values: list[float], stored: str, kind: int) -> bytes:
    """A file as a big-endian MATLAB writes doubles that are small whole numbers."""

    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    small = struct.pack(f">{len(values)}{stored}", *values)
    body = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 1, len(values)))
    body += element(1, name) + element(kind, small)
    return b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, body)


def test_doubles_are_stored_as_smaller_numbers_and_in_either_order_of_bytes():
    stream = io.BytesIO(big_endian_double(b"y", [1, 300, 10], "H", 4))
    [variable] = variables(stream).values()
    assert numbers(stream, variable, MOST).tolist() == [1, 300, 10]
    assert loadmat(stream)["y"].tolist() == [[1, 300, 10]]


def test_structs_are_their_fields(tmp_path):
    path = write_cars(tmp_path / "cars.mat", ["00001.jpg", "ä.jpg"], [180, 0])
    with open(path, "rb") as stream:
        variable = variables(stream)["annotations"]
        rows = list(structs(stream, variable, ("fname", "class", "other"), MOST))
    assert rows == [
        {"fname": "00001.jpg", "class": 181, "other": None},
        {"fname": "ä.jpg", "class": 1, "other": None},
    ]


def test_fields_of_other_kinds_are_passed_over():
    nested = {"deeper": {"deepest": [1, 2]}}
    row = np.zeros((1, 2), dtype=[("a", "O"), ("b", "O")])
    for i, odd in enumerate((nested, np.array([["x", 1]], dtype=object))):
        row[0, i] = (odd, i)
    stream = saved({"s": row})
    assert [r for r in structs(stream, variables(stream)["s"], ("a", "b"), MOST)] == [
        {"a": None, "b": 0},
        {"a": None, "b": 1},
    ]


def test_a_file_of_version_7_3_says_how_to_save_it():
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    for data in (header + bytes(384) + b"\x89HDF\r\n", b"\x89HDF\r\n\x1a\n" + bytes(600)):
        with pytest.raises(MatError, match=r"version 7.3 \(HDF5\).*save it with -v7"):
            variables(io.BytesIO(data))


@pytest.mark.parametrize("data", [b"", b"a text", bytes(1000), b"PK\x03\x04" + bytes(200)])
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(MatError, match="no MAT-file of version 5 to 7"):
        variables(io.BytesIO(data))


def test_more_than_was_asked_for_is_refused_unread():
    stream = saved({"a": np.zeros((100, 100), np.uint8)})
    variable = variables(stream)["a"]
    with pytest.raises(MatError, match="10,000 values, of at most 9,999"):
        numbers(stream, variable, 9_999)
    with pytest.raises(MatError, match="has 100 bytes; at most 99 are read"):
        list(planes(stream, variable, 99))


def test_a_bomb_is_inflated_no_further_than_it_is_read():
    size = 1 << 26
    matrix = struct.pack("<II", 6, 8) + struct.pack("<II", 9, 0)
    matrix += struct.pack("<II", 5, 16) + struct.pack("<4i", 1, 1, 3, 1)
    matrix += struct.pack("<II", 1, 0) + struct.pack("<II", 2, size) + bytes(size)
    packed = zlib.compress(struct.pack("<II", 14, len(matrix)) + matrix, 9)
    header = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    stream = io.BytesIO(header + struct.pack("<II", 15, len(packed)) + packed)
    del matrix
    tracemalloc.start()
    variable = next(iter(variables(stream).values()))
    with pytest.raises(MatError, match="67,108,864 bytes, not those of 3 values"):
        list(planes(stream, variable, 1000))
    with pytest.raises(MatError, match="67,108,864 bytes, not those of 3 values"):
        numbers(stream, variable, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 21


def test_damage_anywhere_is_told_as_such(tmp_path):
    whole = write_cars(tmp_path / "cars.mat", ["1.jpg", "2.jpg"], [3, 4]).read_bytes()
    plain = saved({"annotations": loadmat(tmp_path / "cars.mat")["annotations"]}, compressed=False)
    rng = random.Random(0)
    for original in (whole, plain.getvalue()):
        for _ in range(1500):
            data = bytearray(original)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            stream = io.BytesIO(data[: rng.choice([len(data), rng.randrange(len(data))])])
            try:
                for variable in variables(stream).values():
                    list(structs(stream, variable, ("fname", "class"), MOST))
            except MatError:
                pass  # the only way to fail
