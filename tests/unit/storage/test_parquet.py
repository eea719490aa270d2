"""Parquet is read as values alone, whatever its schema says."""

import ast
import errno
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dawin_ray
from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.storage import parquet as parquet_files
from dawin_ray.storage.parquet import (
    ExtensionTypesError,
    ParquetFileError,
    open_parquet,
    own_parquet,
    read_table,
    table_bytes,
)
from tests.conftest import make_images
from tests.hostile import schemas, typed

[IMAGE] = make_images(1)
SCHEMAS = sorted(schemas(Path("mark"), IMAGE))
# Alone, Arrow makes no type of these: nobody registers them, or they are its own.
OF_NOBODY = {"python", "fixed shape", "unknown"}
LOCAL = fsspec.filesystem("file")


def parquet(table: pa.Table, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


# No type of the data's


@pytest.fixture(scope="module")
def read_beside_ray(tmp_path_factory):
    """What was called while each of the files was read, in a process with Ray's types."""
    root = tmp_path_factory.mktemp("hostile")
    folder = root / "work" / "experts" / "set" / "s"
    folder.mkdir(parents=True)
    for name, (table, _) in schemas(root / "mark", IMAGE).items():
        (folder / f"{name}.parquet").write_bytes(parquet(table))
    result = subprocess.run(
        [sys.executable, "-m", "tests.hostile", str(root)],
        capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (root / "mark").exists(), "Arrow alone runs none of the pickles: the files are harmless"
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_type_of_the_data_is_made_where_rays_are_registered(read_beside_ray, name):
    found = read_beside_ray[name]
    assert found["ours"] == []
    assert (found["alone"] == []) == (name in OF_NOBODY)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_shard_with_such_types_is_one_reject_that_names_them(read_beside_ray, name):
    [[no_image, reason, broken, lost]] = read_beside_ray[name]["samples"]
    _, said = schemas(Path("mark"), IMAGE)[name]
    assert no_image
    assert f": {', '.join(said)}. Write it anew" in reason
    assert (broken, lost) == (True, 3)
    assert read_beside_ray[name]["told"] == [[reason, 3]]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_chunk_file_with_such_types_is_refused_by_its_name(read_beside_ray, tmp_path, name):
    own = read_beside_ray[name]["own"]  # by `read` and `count` of a run directory
    assert len(own) == 2
    assert all(f"{name}.parquet' of this run is damaged (it has columns" in line for line in own)
    table, _ = schemas(tmp_path / "mark", IMAGE)[name]
    path = tmp_path / "c.parquet"
    path.write_bytes(parquet(table))
    with pytest.raises(DamagedFileError, match="extension types"):
        read_table(LOCAL, str(path))
    assert not (tmp_path / "mark").exists()


def test_many_types_are_counted_and_their_names_shown_harmless():
    fields = [typed("a\x1b[31m\n" + "\u202e", f"c{i}\r", pa.int64()) for i in range(9)]
    table = pa.table({f.name: [1] for f in fields}, schema=pa.schema(fields))
    with pytest.raises(ExtensionTypesError) as caught:
        open_parquet(io.BytesIO(parquet(table)))
    assert "c0\\r: a\\x1b[31m\\n\\u202e" in str(caught.value)
    assert "and 4 more" in str(caught.value)
    assert str(caught.value).isprintable()


def test_types_of_arrows_own_are_read_as_what_they_are_stored_as():
    """Without a word of Arrow's on the types, Parquet's own remain, and the values."""
    table = pa.table({
        "a": pa.array([b"x", b"y"], pa.large_binary()),
        "b": pa.array(["x", "y"], pa.dictionary(pa.int8(), pa.string())),
        "c": pa.array([1, 2], pa.uint16()),
        "d": pa.array([[1.5], []], pa.list_(pa.float32())),
    })  # fmt: skip
    read = open_parquet(io.BytesIO(parquet(table))).read()
    assert [str(f.type) for f in read.schema] == [
        "binary", "string", "uint16", "list<element: float>",
    ]  # fmt: skip
    assert read.to_pylist() == table.to_pylist()


def test_a_column_may_be_called_as_the_key_is():
    table = pa.table({"ARROW:schema": [1, 2]})
    assert open_parquet(io.BytesIO(parquet(table))).read().num_rows == 2


def test_only_one_module_reads_parquet_or_arrow_files():
    """A call elsewhere would be one that makes types."""
    package = Path(dawin_ray.__file__).parent
    readers = {"ParquetFile", "ParquetDataset", "read_parquet", "read_pandas", "read_metadata",
               "read_schema", "open_file", "open_stream", "dataset", "read_feather",
               "read_table"}  # fmt: skip
    users = {"pq", "pd", "pandas", "pyarrow", "ipc", "parquet", "feather", "ds"}
    found = set()
    for path in [*package.rglob("*.py"), *(package.parent / "jobs").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            base = ast.unparse(node.func.value).rsplit(".", 1)[-1]
            if node.func.attr in readers and base in users:
                found.add((str(path.relative_to(package.parent)), ast.unparse(node.func)))
    assert {name for name, use in found} <= {"dawin_ray/storage/parquet.py"}, found


# Footers


def cut(data: bytes) -> bytes:
    return data[:-20]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "does not end with PAR1"),
        (lambda data: b"", "0 bytes"),
        (lambda data: b"PAR1", "4 bytes"),
        (lambda data: data[:-4] + b"PARE", "encrypted"),
        (lambda data: data[:-8] + b"\xff\xff\xff\x7f" + b"PAR1", "footer of 2,147,483,647"),
        (lambda data: data[:-8] + b"\x05\x00\x00\x00" + b"PAR1", "footer cannot be read"),
        (lambda data: data[:-8] + b"\x10\x00\x00\x00" + b"PAR1", "footer cannot be read"),
        (
            lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            "git lfs pull",
        ),
    ],
)
def test_a_footer_that_cannot_be_read_says_why(spoil, said):
    data = spoil(parquet(pa.table({"image": [IMAGE]})))
    with pytest.raises(ParquetFileError, match=said):
        open_parquet(io.BytesIO(data))


def test_a_footer_is_bounded_before_it_is_read(monkeypatch):
    data = parquet(pa.table({f"c{i}": [1] for i in range(50)}))
    monkeypatch.setattr(parquet_files, "MAX_FOOTER_BYTES", 1000)
    with pytest.raises(ParquetFileError, match=r"at most 1,000 are read.*larger row groups"):
        open_parquet(io.BytesIO(data))


def test_a_schema_that_is_nested_without_end_is_no_crash():
    """By hand: the elements of a Parquet schema, each with one child."""

    def varint(number: int) -> bytes:
        out = b""
        while number > 127:
            out, number = out + bytes([number & 127 | 128]), number >> 7
        return out + bytes([number])

    # SchemaElement: (type), repetition = OPTIONAL, name, num_children
    root, inner = b"\x48\x01r\x15\x02\x00", b"\x35\x02\x18\x01a\x15\x02\x00"
    leaf = b"\x15\x0c\x25\x02\x18\x01b\x00"
    for depth in (20, 100_000):
        elements = b"\x19\xfc" + varint(depth + 2) + root + inner * depth + leaf
        footer = b"\x15\x02" + elements + b"\x16\x00\x19\x0c\x00"
        data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
        if depth == 20:
            assert open_parquet(io.BytesIO(data)).metadata.num_columns == 1
        else:
            with pytest.raises(ParquetFileError, match="footer cannot be read"):
                open_parquet(io.BytesIO(data))


# A run's own files


TABLE = pa.table({"a": pa.array(range(300), pa.int64()), "b": ["x" * (i % 7) for i in range(300)]})


def test_a_chunk_file_comes_back_with_all_its_types(tmp_path):
    path = tmp_path / "c.parquet"
    path.write_bytes(table_bytes(TABLE))
    assert read_table(LOCAL, str(path)).equals(TABLE)
    assert read_table(LOCAL, str(path), ["b"]).column_names == ["b"]


def test_no_changed_byte_of_a_chunk_file_becomes_another_value(tmp_path):
    """Behind the pages lies the footer, whose values are counts: rows are compared too."""
    good = table_bytes(TABLE)
    pages = int.from_bytes(good[-8:-4], "little") + 8
    path = tmp_path / "c.parquet"
    told = 0
    for at in range(len(good) - pages):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        try:
            assert read_table(LOCAL, str(path)).equals(TABLE), at
        except DamagedFileError:
            told += 1
    assert told > (len(good) - pages) * 0.8


@pytest.mark.parametrize("what", ["cut", "empty", "text"])
def test_a_damaged_chunk_file_is_named_with_a_remedy(tmp_path, what):
    path = tmp_path / "c.parquet"
    good = table_bytes(TABLE)
    path.write_bytes({"cut": good[:-9], "empty": b"", "text": b"no Parquet" * 9}[what])
    with pytest.raises(DamagedFileError, match=r"c.parquet' of the run is damaged.*--res") as told:
        read_table(LOCAL, str(path))
    assert told.value.path == str(path)


def test_a_damaged_file_is_told_from_one_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_table(LOCAL, str(tmp_path / "gone.parquet"))


def test_what_is_wrong_with_a_file_comes_whole_from_another_process():
    error = pickle.loads(pickle.dumps(DamagedFileError("a/b.parquet", "it was cut")))  # noqa: S301
    assert (error.path, error.reason) == ("a/b.parquet", "it was cut")
    assert isinstance(error, UserError)


class Failing(io.BytesIO):
    """A file whose disk fails once `after` bytes have been read."""

    def __init__(self, data: bytes, error: Exception, after: int):
        super().__init__(data)
        self.error, self.left = error, after

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), UserError("Cannot read the shard")])
def test_a_storage_that_fails_is_not_the_files_content(error, after):
    images = [IMAGE * 100] * 3
    stream = Failing(parquet(pa.table({"image": images}), compression="none"), error, after)
    with pytest.raises(type(error)) as caught:
        open_parquet(stream).read()
    assert caught.value is error


def test_a_storage_that_fails_is_not_a_damaged_file(monkeypatch, tmp_path):
    path = tmp_path / "c.parquet"
    path.write_bytes(table_bytes(TABLE))

    class Disk:
        def open(self, where, mode):
            return Failing(Path(where).read_bytes(), OSError(errno.ESTALE, "stale"), 3)

    with pytest.raises(OSError, match="stale"), own_parquet(Disk(), str(path)) as file:
        file.read()
