"""Records: written and read again, and refused where they cannot be what was written."""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from dawin_ray.errors import UserError
from dawin_ray.records import digest, digest_of_texts, read_record, to_json, write_record


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Whole:
    VERSION: ClassVar[int] = 3
    parts: dict[str, Part]
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Aliased:
    VERSION: ClassVar[int] = 1
    origin: Annotated[str, Field(alias="from")]


WHOLE = Whole(parts={"a": Part(name="x", values=(1.5, 2e-300))})


def test_a_record_comes_back_as_it_was():
    assert read_record(Whole, write_record(WHOLE), "whole.json") == WHOLE
    assert to_json(WHOLE)["version"] == 3
    assert "VERSION" not in json.loads(write_record(WHOLE))


def test_a_key_may_be_a_word_of_python():
    record = Aliased(origin="there")
    assert json.loads(write_record(record)) == {"version": 1, "from": "there"}
    assert read_record(Aliased, write_record(record), "aliased.json") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 4}, "has version 4, and this program reads versions up to 3"),
        ({"version": "new"}, "has version new"),
        ({"parts": {"a": {"name": "x"}}}, "is damaged: parts.a.values: Field required"),
        ({"parts": 7}, "is damaged: parts: "),
    ],
)
def test_what_was_not_written_is_refused(change, message):
    content = json.dumps(to_json(WHOLE) | change).encode()
    with pytest.raises(UserError, match=message) as caught:
        read_record(Whole, content, "run/whole.json")
    assert "'run/whole.json'" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"null"])
def test_a_file_that_is_no_record_is_refused(content):
    with pytest.raises(UserError, match=r"'whole\.json' is damaged"):
        read_record(Whole, content, "whole.json")


def test_a_digest_is_of_values_whatever_their_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": (2,), "a": 1}) != digest({"a": 1, "b": [3]})


@pytest.mark.parametrize("count", [0, 1, 2, 4096, 4097, 8193])
def test_the_digest_of_many_texts_is_that_of_their_list(count):
    texts = [f'"{i}\u00e9\udcff' for i in range(count)]
    assert digest_of_texts(iter(texts)) == digest(texts)
