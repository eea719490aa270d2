import itertools

import pytest

from dawin_ray.names import MADE, shown


@pytest.mark.parametrize("name", ["a/b.jpg", "café", "名前", "a\\b", "100%", "=1+1", "\\x"])
def test_a_name_of_plain_text_is_itself(name):
    assert shown(name) == name


@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff\xfe", b"ok\xc3\xa9\x80"])
def test_bytes_that_are_no_utf8_are_escaped(raw):
    text = shown(raw.decode("utf-8", "surrogateescape"))
    text.encode()
    assert "\\x" in text


def test_names_that_differ_stay_different():
    parts = ["a", "\\", "x", "e9", "\udce9", "é", "@", "\\x5c", "\ud800"]
    names = {"".join(p) for n in range(1, 5) for p in itertools.product(parts, repeat=n)}
    assert len({shown(name) for name in names}) == len(names)


def test_no_name_of_the_data_has_the_mark_of_ours():
    parts = ["a", "\\", "@", "\udce9", "x", "5c"]
    for name in itertools.product(parts, repeat=5):
        assert MADE not in shown("".join(name))
