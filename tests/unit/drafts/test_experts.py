"""What checkpoints tell a draft: names, base, architecture, heads, doubts."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dawin_ray.drafts.experts import look_at_experts
from dawin_ray.errors import UserError
from dawin_ray.settings import FILL_IN
from tests.conftest import CLASSES, whole_state
from tests.unit.models.test_outlines import header_of, shapes  # noqa: F401  (a fixture)


def test_the_model_config_beside_is_found_and_the_heads_counted(small):
    found = look_at_experts(small.checkpoints, None, None)
    assert found.architecture == small.config
    assert (found.classes, found.texts, found.some_heads) == (CLASSES, False, False)
    assert [expert.name for expert in found.experts] == ["expert_0", "expert_1", "expert_2"]
    assert "as it was given first" in found.experts[0].why
    assert "--base" in found.doubts[-1]
    assert not look_at_experts(small.checkpoints[:2], None, None).doubts


def copied(small, folder, *names):
    paths = []
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        paths.append(shutil.copy(small.checkpoints[i], folder / name))
    return [str(path) for path in paths]


@pytest.mark.parametrize(
    "name", ["zeroshot", "Zero-Shot_vitb", "pretrained", "my_openai", "BaseModel"]
)
def test_the_base_is_the_one_that_is_called_so(small, tmp_path, name):
    paths = copied(small, tmp_path, "finetuned.safetensors", f"{name}.safetensors")
    found = look_at_experts(paths, small.config, None)
    assert [expert.address for expert in found.experts] == paths[::-1]
    assert "its name has the word" in found.experts[0].why


def test_names_are_apart_and_no_methods(small, tmp_path):
    paths = copied(small, tmp_path, "a/model.safetensors", "b/model.safetensors")
    names = [expert.name for expert in look_at_experts(paths, small.config, None).experts]
    assert names == ["a_model", "b_model"]
    paths = copied(small, tmp_path, "dawin.safetensors", "even_interpolation.safetensors")
    names = [expert.name for expert in look_at_experts(paths, small.config, None).experts]
    assert names == ["expert_dawin", "expert_even_interpolation"]
    paths = copied(small, tmp_path, "a\x1b[31m.safetensors", "007.safetensors")
    names = [expert.name for expert in look_at_experts(paths, small.config, None).experts]
    assert names == ["a-31m", "expert-007"]


def test_an_architecture_that_nothing_tells_is_left_open(small, tmp_path):
    found = look_at_experts(copied(small, tmp_path, "a.safetensors", "b.safetensors"), None, None)
    assert found.architecture.startswith(FILL_IN)
    assert not found.known


def test_several_configs_that_fit_are_a_choice_for_a_person(small, tmp_path):
    paths = copied(small, tmp_path, "a.safetensors", "b.safetensors")
    for name in ("one.json", "two.json"):
        shutil.copy(small.config, tmp_path / name)
    (tmp_path / "other.json").write_text("[]")
    found = look_at_experts(paths, None, None)
    assert found.architecture.startswith(FILL_IN)
    assert "one.json" in found.architecture
    assert "two.json" in found.architecture


def test_quickgelu_is_a_doubt_and_the_files_names_may_settle_it(tmp_path, shapes):  # noqa: F811
    for folder, expected in (("laion", "ViT-B-32"), ("openai", "ViT-B-32-quickgelu")):
        (tmp_path / folder).mkdir()
        paths = [
            header_of(tmp_path / folder / f"{name}.safetensors", shapes) for name in ("zero", "b")
        ]
        found = look_at_experts(paths, None, None)
        assert found.architecture == expected
        other = {"ViT-B-32": "ViT-B-32-quickgelu"}.get(expected, "ViT-B-32")
        assert f"set model.architecture: {other}" in found.doubts[0]
        assert other in found.why_architecture


def test_a_tag_settles_the_activation(tmp_path, shapes):  # noqa: F811
    tuned = header_of(tmp_path / "tuned.safetensors", shapes)
    found = look_at_experts([tuned, "openai"], None, None)
    assert found.architecture == "ViT-B-32-quickgelu"
    assert [expert.name for expert in found.experts] == ["openai", "tuned"]
    assert not any("activation" in doubt for doubt in found.doubts)


def test_preprocessing_of_files_is_a_doubt_where_every_tag_had_another(tmp_path, monkeypatch):
    """As a job warns of it."""
    monkeypatch.setattr(
        "dawin_ray.models.preprocessing.doubt_about_files", lambda *_: "other pixels"
    )
    save_file(whole_state(0), tmp_path / "a.safetensors")
    save_file(whole_state(1), tmp_path / "b.safetensors")
    paths = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert look_at_experts(paths, "ViT-B-32-quickgelu", None).doubts[-1] == "other pixels"


def test_a_given_architecture_is_held_against_the_shapes(tmp_path, shapes, small):  # noqa: F811
    paths = [header_of(tmp_path / f"{n}.safetensors", shapes) for n in ("zero", "tuned")]
    assert look_at_experts(paths, "ViT-B-32", None).why_architecture == "as --architecture says"
    with pytest.raises(UserError, match=r"not of the architecture 'ViT-L-14'.*of ViT-B-32"):
        look_at_experts(paths, "ViT-L-14", None)
    with pytest.raises(UserError, match="Unknown architecture 'ViT-X'"):
        look_at_experts(paths, "ViT-X", None)
    found = look_at_experts(small.checkpoints[:2], "ViT-B-32", None)
    assert "told by plan alone" in found.doubts[0]


def test_checkpoints_of_two_architectures_are_refused(small, tmp_path):
    state = load_file(small.checkpoints[1])
    state["visual.proj"] = torch.zeros(32, 8)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"different architectures.*'visual.proj' is \[32, 16\]"):
        look_at_experts([small.checkpoints[0], str(tmp_path / "other.safetensors")], None, None)


def test_heads_that_some_lack_or_that_differ(small, tmp_path):
    state = load_file(small.checkpoints[1])
    bare = {name: t for name, t in state.items() if name.startswith("visual.")}
    save_file(bare, tmp_path / "bare.safetensors")
    found = look_at_experts([small.checkpoints[0], str(tmp_path / "bare.safetensors")], None, None)
    assert (found.classes, found.some_heads) == (None, True)
    save_file(bare | {"classification_head.weight": torch.zeros(9, 16)}, tmp_path / "9.safetensors")
    with pytest.raises(UserError, match="heads of different classes"):
        look_at_experts([small.checkpoints[0], str(tmp_path / "9.safetensors")], None, None)
    save_file({"weight": torch.zeros(9, 16)}, tmp_path / "head.safetensors")
    with pytest.raises(UserError, match="is a head of 9 classes and no model"):
        look_at_experts([small.checkpoints[0], str(tmp_path / "head.safetensors")], None, None)


def test_a_base_of_task_vectors_is_looked_at_too(small, tmp_path):
    found = look_at_experts(small.checkpoints[:2], None, small.checkpoints[2])
    assert found.base == small.checkpoints[2]
    assert set(found.checkpoints) == {"expert_0", "expert_1", "merge.base"}


def test_two_checkpoints_are_needed(small):
    with pytest.raises(UserError, match="There is one checkpoint"):
        look_at_experts(small.checkpoints[:1], None, None)
    with pytest.raises(UserError, match="given twice"):
        look_at_experts([small.checkpoints[0]] * 2, None, None)
