"""Parquet files whose schemas name types that run code, and what notices when one is made.

`python -m tests.hostile FOLDER` reads each file of a folder where Ray's types are registered, and
prints what was called meanwhile.
"""

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAME, PARAMETERS = b"ARROW:extension:name", b"ARROW:extension:metadata"
OBJECT = "ray.data.arrow_pickled_object"
TENSOR, TENSOR_2 = "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2"
VARIABLE = "ray.data.arrow_variable_shaped_tensor"


class Touch:
    """Unpickled, it makes a file and returns `value`."""

    def __init__(self, path: Path, value: object):
        self.path, self.value = str(path), value

    def __reduce__(self):
        return eval, (f"(open({self.path!r}, 'w').close(), {self.value!r})[1]",)


def typed(name: str, field: str, storage: pa.DataType, parameters: bytes = b"") -> pa.Field:
    """A field of an extension type, as its storage with metadata: so it needs no such type here."""
    return pa.field(field, storage, metadata={NAME: name.encode(), PARAMETERS: parameters})


def schemas(mark: Path, image: bytes) -> dict[str, tuple[pa.Table, list[str]]]:
    """Tables by name, with what is to be said of each: `column: extension type`.

    All pickles in them make the file `mark`.
    """
    code = pickle.dumps(Touch(mark, image))
    parameters = pickle.dumps(Touch(mark, (2,)))
    blob, numbers = pa.large_binary(), pa.list_(pa.int64())
    path = pa.field("path", pa.string())
    ragged = pa.struct([("data", numbers), ("shape", numbers)])

    def struct(*fields: pa.Field) -> pa.DataType:
        return pa.struct(list(fields))

    plain_image = (pa.field("image", pa.binary()), image)
    columns = {
        "column": [(typed(OBJECT, "image", blob), code)],
        "struct": [
            (pa.field("image", struct(typed(OBJECT, "bytes", blob), path)), {"bytes": code})
        ],
        "nested struct": [
            plain_image,
            (pa.field("a", struct(pa.field("b", struct(typed(OBJECT, "c", blob))))),
             {"b": {"c": code}}),
        ],
        "struct itself": [
            (typed(OBJECT, "image", struct(pa.field("bytes", blob), path)), {"bytes": code})
        ],
        "list": [
            plain_image,
            (pa.field("a", pa.list_(typed(OBJECT, "item", blob))), [code]),
        ],
        "dictionary": [(typed(OBJECT, "image", pa.dictionary(pa.int32(), pa.binary())), code)],
        "map": [
            plain_image,
            (pa.field("a", pa.map_(pa.string(), typed(OBJECT, "value", blob))), [("k", code)]),
        ],
        "label": [plain_image, (typed(OBJECT, "label", blob), code)],
        "tensor": [plain_image, (typed(TENSOR, "a", numbers, parameters), [1, 2])],
        "tensor 2": [
            plain_image, (typed(TENSOR_2, "a", pa.large_list(pa.int64()), parameters), [1, 2])
        ],
        "ragged tensor": [
            plain_image,
            (typed(VARIABLE, "a", ragged, parameters), {"data": [1, 2], "shape": [2]}),
        ],
        "python": [plain_image, (typed("arrow.py_extension_type", "a", blob, parameters), code)],
        "fixed shape": [
            plain_image,
            (typed("arrow.fixed_shape_tensor", "a", pa.list_(pa.int64(), 2), b'{"shape":[2]}'),
             [1, 2]),
        ],
        "unknown": [plain_image, (typed("somebody.else", "a", pa.int64(), parameters), 1)],
    }  # fmt: skip
    said = {
        "column": [f"image: {OBJECT}"],
        "struct": [f"image.bytes: {OBJECT}"],
        "nested struct": [f"a.b.c: {OBJECT}"],
        "struct itself": [f"image: {OBJECT}"],
        "list": [f"a.item: {OBJECT}"],
        "dictionary": [f"image: {OBJECT}"],
        "map": [f"a.value: {OBJECT}"],
        "label": [f"label: {OBJECT}"],
        "tensor": [f"a: {TENSOR}"],
        "tensor 2": [f"a: {TENSOR_2}"],
        "ragged tensor": [f"a: {VARIABLE}"],
        "python": ["a: arrow.py_extension_type"],
        "fixed shape": ["a: arrow.fixed_shape_tensor"],
        "unknown": ["a: somebody.else"],
    }
    return {
        name: (
            pa.table(
                {f.name: pa.array([value] * 3, f.type) for f, value in fields},
                schema=pa.schema([f for f, _ in fields]),
            ),
            said[name],
        )
        for name, fields in columns.items()
    }


def _traps(called: list[str]) -> None:
    """Note each call of what would run a file's code, in this process."""
    import ray.cloudpickle

    def trap(module: object, name: str) -> None:
        real = getattr(module, name)

        def noted(*arguments: object, **options: object) -> object:
            called.append(name)
            return real(*arguments, **options)

        setattr(module, name, noted)

    for module in (pickle, ray.cloudpickle):
        trap(module, "loads")
        trap(module, "load")
    for kind in _below(pa.ExtensionType):  # wherever this Ray keeps them
        if kind.__module__.startswith("ray."):
            trap(kind, "__arrow_ext_deserialize__")


def _below(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def main(folder: Path) -> None:
    """Print for each file what was called: while we read it, and while Arrow alone does."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA"] = "1"
    import ray.data

    from dawin_ray.data.datasets import Shard
    from dawin_ray.data.formats.registry import count_samples, read_samples
    from dawin_ray.runs.directory import RunDirectory
    from dawin_ray.runs.work import Work

    assert not ray.is_initialized()
    called: list[str] = []
    _traps(called)
    found = {}
    for path in sorted(folder.glob("work/experts/set/s/*.parquet")):
        shard = Shard(
            dataset="set", name="s.parquet", address=str(path), format="parquet",
            bytes=path.stat().st_size, key="s",
        )  # fmt: skip
        content, told = path.read_bytes(), []
        count_samples(shard, lambda sample, told=told: told.append((sample.error, sample.lost)))
        samples = [(s.image is None, s.error, s.broken, s.lost) for s in read_samples(shard)]
        own = []
        for read in (Work.read, Work.count):
            try:
                read(RunDirectory(str(folder)).work, "experts", "set", "s", path.stem)
            except Exception as error:  # noqa: BLE001  (it is printed)
                own.append(f"{type(error).__name__}: {error}")
            path.write_bytes(content)  # a run deletes what is damaged
        ours = list(called)
        try:
            pq.ParquetFile(path).read().to_pylist()
        except Exception as error:  # noqa: BLE001  (whatever Arrow makes of it)
            called.append(type(error).__name__)
        found[path.stem] = {
            "told": told, "samples": samples, "own": own, "ours": ours,
            "alone": called[len(ours) :],
        }  # fmt: skip
        called.clear()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
