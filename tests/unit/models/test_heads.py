"""Heads are told by their texts, and a trained one is never dropped without a word."""

import open_clip
import pytest

from dawin_ray.errors import UserError
from dawin_ray.models.heads import check_heads, resolve_head, zero_shot_head
from dawin_ray.models.spec import CHECKPOINT_HEAD, HeadSpec, ModelConfig
from dawin_ray.models.texts import known_templates, prompts, read_templates

NAMES, TEMPLATES = ("cat", "dog"), ("a {}.", "the {}")


def test_the_key_of_a_head_is_of_its_texts():
    head = zero_shot_head(NAMES, TEMPLATES)
    assert head == zero_shot_head(list(NAMES), list(TEMPLATES))
    assert head.zero_shot
    others = [
        zero_shot_head(("cat", "dogs"), TEMPLATES),
        zero_shot_head(("dog", "cat"), TEMPLATES),
        zero_shot_head(NAMES, ("a {}.",)),
        zero_shot_head(NAMES, ("a {}. ", "the {}")),
        zero_shot_head((*NAMES, TEMPLATES[0]), TEMPLATES[1:]),
    ]
    assert len({other.key for other in others} | {head.key}) == 6
    assert not HeadSpec().zero_shot
    assert HeadSpec().digests == {}
    assert {*head.digests} == {"class_names", "templates"}


def test_an_edited_file_of_the_same_name_makes_another_head(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "lines.txt").write_text("a {}.\n")
    model = ModelConfig(
        architecture="a",
        class_names=str(tmp_path / "names.txt"),
        templates=str(tmp_path / "lines.txt"),
    )
    first = resolve_head(model, False, "set", None, None)
    (tmp_path / "lines.txt").write_text("no {}.\n")
    second = resolve_head(model, False, "set", None, None)
    (tmp_path / "names.txt").write_text("cat\ncow\n")
    third = resolve_head(model, False, "set", None, None)
    assert len({first.key, second.key, third.key}) == 3
    assert first.templates == ("a {}.",)  # what a worker builds it from, whatever the file says now
    assert first.digests["class_names"] == second.digests["class_names"]
    assert first.digests["templates"] != second.digests["templates"]


def test_known_templates_are_open_clips():
    for name, theirs in (
        ("openai-imagenet", open_clip.OPENAI_IMAGENET_TEMPLATES),
        ("simple-imagenet", open_clip.SIMPLE_IMAGENET_TEMPLATES),
    ):
        ours = prompts(known_templates()[name])
        assert [f("a {} {x}") for f in ours] == [f("a {} {x}") for f in theirs]


@pytest.mark.parametrize(
    "line", ["a {} {x}.", "a {} {0}.", "a {} {.", "a } {}", "a {{}}", "a {} {c}", "{} {:d}", "{!r}"]
)
def test_a_template_with_another_brace_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "lines.txt"
    path.write_text(f"a good {{}}.\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_templates(str(path))
    assert repr(line) in str(caught.value)
    assert str(path) in str(caught.value)
    assert "one {} where the class name goes" in str(caught.value)


def test_class_names_may_hold_braces():
    assert [prompt("{x} {}") for prompt in prompts(TEMPLATES)] == ["a {x} {}.", "the {x} {}"]


def test_all_heads_or_none():
    both, none = {"a": True, "b": True}, {"a": False, "b": False}
    assert check_heads("auto", both)
    assert check_heads("checkpoint", both)
    assert not check_heads("auto", none)
    assert not check_heads("zero_shot", both)
    assert not check_heads("zero_shot", {"a": True, "b": False})


@pytest.mark.parametrize("head", ["auto", "checkpoint"])
@pytest.mark.parametrize(
    ("trained", "having", "lacking"),
    [
        ({"first": False, "second": True}, "second has a", "first has no"),
        ({"first": True, "second": False}, "first has a", "second has no"),
        ({"a": True, "b": True, "merge.base": False}, "a, b have a", "merge.base has no"),
        ({"a": False, "b": False, "merge.base": True}, "merge.base has a", "a, b have no"),
    ],
)
def test_a_trained_head_beside_none_is_refused_with_who_has_it(head, trained, having, lacking):
    with pytest.raises(UserError) as caught:
        check_heads(head, trained)
    for part in (having, lacking, "classification_head.weight", "zero_shot"):
        assert part in str(caught.value)


def test_the_head_of_the_checkpoints_is_asked_for_and_there_is_none():
    with pytest.raises(UserError, match="none of them does"):
        check_heads("checkpoint", {"a": False})
    assert HeadSpec().key == CHECKPOINT_HEAD
