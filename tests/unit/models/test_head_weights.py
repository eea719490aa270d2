"""Heads of files and of the base's text: one for all models, and never merged."""

import logging

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.errors import UserError
from dawin_ray.method.merge import merge
from dawin_ray.models.experts import Experts, load_experts
from dawin_ray.models.found import find_models
from dawin_ray.models.heads import head_of_file, zero_shot_head
from dawin_ray.models.spec import ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from tests.conftest import MODEL_CONFIG, expert_state, whole_state

CPU = torch.device("cpu")
WIDTH = MODEL_CONFIG["embed_dim"]
WEIGHT, BIAS = "classification_head.weight", "classification_head.bias"


def random_head(classes: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(classes)
    return {WEIGHT: torch.randn(classes, WIDTH), BIAS: torch.randn(classes)}


def load(small, *heads: HeadSpec, base: str | None = None, paths=None) -> Experts:
    experts = tuple(
        ExpertConfig(name=f"e{i}", checkpoint=path)
        for i, path in enumerate(paths or small.checkpoints[:2])
    )
    config = ModelConfig(architecture=small.config)
    return load_experts(ModelSpec(config=config, experts=experts, base=base, heads=heads))


def saved(path, state) -> str:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return str(path)


# Of a file


@pytest.mark.parametrize("base", [False, True], ids=["experts", "base"])
def test_a_head_of_a_file_is_the_same_in_every_model(small, tmp_path, base):
    state = random_head()
    head = head_of_file(saved(tmp_path / "head.safetensors", state))
    experts = load(small, head, base=small.checkpoints[2] if base else None)
    assert experts.head_count(head.key) == 3
    assert not any(name.startswith("heads.") for name in experts.states[0])
    merged = merge(experts.states, [0.3, 0.7], base=experts.base)
    for weights in [*experts.states, merged, *([experts.base] if base else [])]:
        linear = experts.classifier(weights, CPU, torch.float32).heads[head.key]
        assert torch.equal(linear.weight, state[WEIGHT])
        assert torch.equal(linear.bias, state[BIAS])
    exact = experts.samplewise().model.heads[head.key]
    assert type(exact.weight) is torch.Tensor  # one for all samples, and not of parts
    assert torch.equal(exact.weight, state[WEIGHT])


LAYOUTS = {
    "reference": lambda s: s,
    "wrapped": lambda s: {f"module.{name}": t for name, t in s.items()},
    "linear": lambda s: {"weight": s[WEIGHT], "bias": s[BIAS]},
    "no bias": lambda s: {"weight": s[WEIGHT]},
    "checkpoint": lambda s: {**expert_state(7), **s},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_file_may_be_a_head_or_the_checkpoint_that_was_saved_with_it(small, tmp_path, layout):
    state = random_head()
    head = head_of_file(saved(tmp_path / "head.safetensors", layout(state)))
    shared = load(small, head).shared
    bias = state[BIAS] if len(layout(state)) > 1 else torch.zeros(3)
    assert torch.equal(shared[f"heads.{head.key}.weight"], state[WEIGHT])
    assert torch.equal(shared[f"heads.{head.key}.bias"], bias)


def nan_in(state):
    state[WEIGHT][1, 1] = torch.nan
    return state


WRONG = {
    "holds no head": lambda s: {"visual.proj": torch.zeros(2, 2)},
    "holds several heads": lambda s: s | {f"other.{WEIGHT}": s[WEIGHT].clone()},
    r"has shape \[3, 5\]; expected \[classes, 16\]": lambda s: s | {WEIGHT: torch.zeros(3, 5)},
    r"bias' of .* has shape \[4\]; expected \[3\]": lambda s: s | {BIAS: torch.zeros(4)},
    "holds 1 NaN or infinite": nan_in,
    "is torch.int8": lambda s: s | {WEIGHT: s[WEIGHT].to(torch.int8)},
}


@pytest.mark.parametrize(("message", "wrong"), WRONG.items(), ids=range(len(WRONG)))
def test_a_file_that_holds_no_such_head_is_refused(small, tmp_path, message, wrong):
    path = saved(tmp_path / "wrong.safetensors", wrong(random_head()))
    with pytest.raises(UserError, match=message):
        load(small, head_of_file(path))


def test_a_head_is_a_file_and_the_one_that_the_run_began_with(small, tmp_path):
    with pytest.raises(UserError, match=r"'mnist' is no file.*\.safetensors"):
        head_of_file("mnist")
    path = tmp_path / "head.safetensors"
    head = head_of_file(saved(path, random_head()))
    other = head_of_file(saved(path, random_head(4)))
    assert head.key != other.key
    assert head.digests == {"head": head.sha256}
    with pytest.raises(UserError, match="changed while the run was being started"):
        load(small, head)


def test_data_sets_have_heads_of_different_sizes_beside_each_other(small, tmp_path):
    heads = [head_of_file(saved(tmp_path / f"{n}.safetensors", random_head(n))) for n in (3, 5)]
    experts = load(small, *heads, HeadSpec())
    model = experts.classifier(experts.states[0], CPU, torch.float32)
    pixels = torch.randn(2, 3, 32, 32)
    assert [model(pixels, head.key).shape[1] for head in heads] == [3, 5]
    assert model(pixels).shape[1] == 6  # the checkpoint's own


# Over a base


def test_equal_heads_of_checkpoints_are_one_over_a_base(small, tmp_path):
    head = random_head()
    paths = [saved(tmp_path / f"{i}.safetensors", expert_state(i) | head) for i in range(3)]
    experts = load(small, HeadSpec(), base=paths[2], paths=paths[:2])
    assert torch.equal(experts.shared["heads.checkpoint.weight"], head[WEIGHT])
    assert not any(name.startswith("heads.") for name in experts.base)


@pytest.mark.parametrize("part", [WEIGHT, BIAS])
def test_heads_that_differ_are_refused_over_a_base_and_merged_without_one(small, tmp_path, part):
    head = random_head()
    states = [expert_state(i) | head for i in range(3)]
    states[1][part] = states[1][part] + 1e-3
    paths = [saved(tmp_path / f"{i}.safetensors", state) for i, state in enumerate(states)]
    with pytest.raises(UserError, match=r"'e1'.*'merge\.base'.*datasets\[\]\.head") as caught:
        load(small, HeadSpec(), base=paths[2], paths=paths[:2])
    assert paths[1] in str(caught.value)
    both = load(small, HeadSpec(), paths=paths[:2])
    name = f"heads.checkpoint.{part.rpartition('.')[2]}"
    assert torch.equal(both.states[1][name], states[1][part])
    assert not both.shared


TEXTS = (("cat", "dog", "hen"), ("a {}.", "the {}", "my {}!"))


def test_a_zero_shot_head_is_made_by_the_base_alone_and_once(small, tmp_path, monkeypatch):
    whole = whole_state(3)
    whole["logit_scale"] = torch.tensor(1.5)
    base = saved(tmp_path / "base.safetensors", whole)
    made = []
    build = open_clip.build_zero_shot_classifier
    monkeypatch.setattr(
        open_clip, "build_zero_shot_classifier",
        lambda *args: made.append(args) or build(*args),
    )  # fmt: skip
    head = zero_shot_head(*TEXTS, of_base=True)
    experts = load(small, head, base=base)  # the experts have no text tower
    assert len(made) == 1

    clip = open_clip.model.CLIP(**MODEL_CONFIG)
    clip.load_state_dict(whole)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    rows = []
    with torch.inference_mode():
        for name in TEXTS[0]:
            prompts = tokenizer([template.replace("{}", name) for template in TEXTS[1]])
            each = torch.nn.functional.normalize(clip.encode_text(prompts), dim=-1)
            rows.append(torch.nn.functional.normalize(each.mean(dim=0), dim=-1))
    expected = torch.tensor(1.5).exp() * torch.stack(rows)
    weight = experts.shared[f"heads.{head.key}.weight"]
    torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-5)
    assert not experts.shared[f"heads.{head.key}.bias"].any()


def test_who_makes_a_zero_shot_head_is_told_by_its_digests():
    own, of_base = zero_shot_head(*TEXTS), zero_shot_head(*TEXTS, of_base=True)
    assert not own.shared
    assert of_base.shared
    assert own.digests == {k: v for k, v in of_base.digests.items() if k != "text_tower"}
    assert own.digests != of_base.digests


def leftovers(seed: int) -> dict[str, torch.Tensor]:
    """A checkpoint of the reference's image encoder: no `transformer` of the text tower."""
    return {
        f"model.{name}": tensor
        for name, tensor in whole_state(seed).items()
        if not name.startswith("transformer.")
    }


def test_the_references_encoders_load_with_what_is_left_of_their_text(small, tmp_path, caplog):
    paths = [saved(tmp_path / f"{i}.safetensors", leftovers(i)) for i in range(3)]
    experts = [ExpertConfig(name=f"e{i}", checkpoint=path) for i, path in enumerate(paths[:2])]
    with caplog.at_level(logging.WARNING):
        found = find_models(ModelConfig(architecture=small.config), experts, paths[2])
    assert "used by nothing" not in caplog.text
    head = head_of_file(saved(tmp_path / "head.safetensors", random_head()))
    _, loaded = found.load({"set": head})
    assert torch.equal(loaded.states[1]["visual.proj"], whole_state(1)["visual.proj"])
    assert all(name.startswith("visual.") for name in loaded.base)
    with pytest.raises(
        UserError, match=r"'merge\.base'(?s:.*)text tower(?s:.*)datasets\[\]\.head"
    ) as caught:
        found.load({"set": zero_shot_head(*TEXTS, of_base=True)})
    assert paths[2] in str(caught.value)
