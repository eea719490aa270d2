import itertools

import pytest

from dawin_ray.names import MADE, escaped, printable, shown


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


def test_plain_text_is_as_it_is():
    for text in ("Grüße, 日本語, 😀", "two\nlines\tand a tab", "[/bold] :smile: \\x1b"):
        assert printable(text) == text


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0xDCFF, 0xD800])
def test_what_steers_a_terminal_is_escaped(code):
    if chr(code) in "\n\t":
        return
    out = printable(f"a{chr(code)}b")
    assert chr(code) not in out
    assert out.startswith("a\\")
    out.encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("café 名前", "café 名前"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_what_data_say_is_one_line_without_commands(text, line):
    assert escaped(text) == line
