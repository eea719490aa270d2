"""What a draft writes is read as what was meant, whatever names data have."""

import pytest
import yaml

from dawin_ray.drafts.text import Key, comment, scalar, text_of

# What YAML 1.1 or 1.2 takes for something else than text, and what would steer a terminal.
HOSTILE = [
    "no", "on", "Yes", "off", "y", "n", "null", "~", "true", "1e5", "007", "0x1F", "0o17", "1_000",
    "12:30", "2020-01-01", ".inf", ".nan", "-1", "", " lead", "trail ", "a: b", "# c", "a #b",
    "- d", "? e", "'q'", '"', "",
    "=", "<<", "{a}", "[b]", "&c", "*d", "!e", "|", ">", "%x", "@a", "`b", ",", "a\nb",
    "a\r\nb", "a\x1b[31mred", "\x00", "\x85", "\u2028", "\ufeffbom", "caf\u00e9", "\u202e",
    "\udc80byte", "😀", "...", "---", "..", "C++", "a'b", "s3://bucket/{000..012}.tar", "FILL IN",
    "a/b:c", "key: |\n  x", "\\x1b", "\t",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_comes_back_as_it_was(name):
    line = f"key: {scalar(name)}\n"
    assert line.encode("ascii")
    assert line.count("\n") == 1
    assert yaml.safe_load(line) == {"key": name}
    assert yaml.load(line, yaml.BaseLoader)["key"] == name  # who takes all for text, too


@pytest.mark.parametrize("name", ["no", "on", "1e5", "007", "null", "2020-01-01", ".5", "~", "y"])
def test_what_some_reader_takes_for_no_text_is_quoted(name):
    assert scalar(name) == f'"{name}"'


def test_plain_words_and_paths_need_no_quotes():
    for text in ("imagenet-r", "data/set_1.tar", "s3://bucket/set", "./a", "ViT-B-32-quickgelu"):
        assert scalar(text) == text


def test_other_values_are_as_yaml_has_them():
    assert scalar({"checkpoint": "a: b"}) == '{checkpoint: "a: b"}'
    assert yaml.safe_load(scalar({"checkpoint": "no"})) == {"checkpoint": "no"}
    assert [scalar(value) for value in (3, True, None)] == ["3", "true", "null"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_comment_stays_one(name):
    for line in comment(f"of {name}, {'long ' * 40}", "  "):
        assert line.startswith("  #")
        assert line.isprintable()
        assert yaml.safe_load(line) is None


def test_a_file_has_its_keys_below_their_comments():
    text = text_of(
        ["A draft.", "", "In doubt: no\n"],
        [
            Key(name="run_dir", value="no", why="as said"),
            Key(name="model", value=[Key(name="architecture", value="tiny.json", why="seen")]),
            Key(
                name="experts",
                value=[
                    [Key(name="name", value="a", why="first"), Key(name="checkpoint", value="1")],
                    [Key(name="name", value="b"), Key(name="checkpoint", value="2")],
                ],
            ),
        ],
    )
    assert text == (
        "# A draft.\n#\n# In doubt: no\\n\n\n"
        '# as said\nrun_dir: "no"\n'
        "model:\n  # seen\n  architecture: tiny.json\n"
        'experts:\n  # first\n  - name: a\n    checkpoint: "1"\n'
        '  - name: b\n    checkpoint: "2"\n'
    )
    assert yaml.safe_load(text)["experts"][1] == {"name": "b", "checkpoint": "2"}
