"""Names that a job takes, of whatever files and folders are called."""

import pytest

from dawin_ray.drafts.names import as_name, name_of, unique, words_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("imagenet-r", "imagenet-r"), ("no", "no"), ("007", "set-007"), ("1e5", "set-1e5"),
        ("true", "set-true"), ("caf\u00e9 1", "cafe-1"), ("\u65e5\u672c", "set"),
        ("a\x1b[31m\nb", "a-31m-b"), ("..", "set"), ("-x-", "x"), ("x" * 99, "x" * 60),
    ],
)  # fmt: skip
def test_a_text_becomes_a_name_that_a_job_takes(text, name):
    assert as_name(text, "set") == name


def test_a_path_is_called_by_what_says_something():
    assert name_of("data/imagenet/val", (), "set") == "imagenet"
    assert name_of("s3://bucket/sets/sketch/test/*.tar", (), "set") == "sketch"
    assert name_of("/data/images/", (), "set") == "images"
    assert name_of(".", (), "set") == "set"
    assert name_of("a/digits", {"digits", "digits-2"}, "set") == "digits-3"
    assert unique("a", ()) == "a"


def test_words_of_a_name():
    assert list(words_of("ZeroShot_ViT-B32.openai")) == [
        "zero",
        "shot",
        "vi",
        "t",
        "b",
        "32",
        "openai",
    ]
