"""The exact forward equals one forward a sample with its own merged weights, in float64.

Shapes: B batch, M experts.
"""

import copy

import open_clip
import pytest
import torch
from torch import nn

from dawin_ray.errors import UserError
from dawin_ray.method.merge import merge
from dawin_ray.method.samplewise.classifier import (
    Placement,
    SamplewiseClassifier,
    check_samplewise,
)
from dawin_ray.method.samplewise.tensors import Interpolated, LowRank
from dawin_ray.models.experts import Classifier

BATCH = 3
CLASSES = 10
# Float32 against float64: the towers' own rounding, which a plain forward has as well.
TOLERANCE = 1e-5
HEAD = "checkpoint"


def vit(embed: int = 16, **vision) -> nn.Module:
    settings = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1}
    return open_clip.model.CLIP(embed, settings | vision, text).visual


def named(architecture: str, layers: int | None = None) -> nn.Module:
    visual = open_clip.create_model(architecture, load_weights=False).visual
    if layers:
        visual.transformer.resblocks = visual.transformer.resblocks[:layers]
    return visual


def classifier(visual: nn.Module, size: int) -> Classifier:
    visual = visual.eval().requires_grad_(False)
    features = visual(torch.zeros(1, 3, size, size))
    features = features[0] if isinstance(features, tuple) else features
    return Classifier(visual, {HEAD: (CLASSES, features.shape[-1])}).eval().requires_grad_(False)


def experts_of(model: nn.Module, count: int) -> list[dict]:
    """Different in every floating tensor, and positive where variances must be."""
    generator = torch.Generator().manual_seed(0)
    states = []
    for _ in range(count):
        state = {}
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                state[name] = tensor
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            spread = 0.1 * float(tensor.std()) if tensor.numel() > 1 else 0.0
            moved = tensor + (spread + 0.02) * noise
            state[name] = moved.abs() + 0.1 if name.endswith("running_var") else moved
        states.append(state)
    return states


def coefficients_of(count: int) -> torch.Tensor:
    rows = torch.rand(BATCH, count, generator=torch.Generator().manual_seed(1)) + 0.05
    return rows / rows.sum(dim=1, keepdim=True)


def error_of(model: nn.Module, size: int, count: int, **merging) -> float:
    """Largest difference of the logits to those in float64, relative to the largest logit."""
    states = experts_of(model, count)
    if merging:
        merging["base"] = model.state_dict()
    exact = SamplewiseClassifier(model, states, **merging)
    pixels, rows = torch.randn(BATCH, 3, size, size), coefficients_of(count)
    with torch.inference_mode():
        ours = exact(pixels, rows, HEAD)
        expected = []
        for i, row in enumerate(rows):
            wide = [{k: v.double() if v.is_floating_point() else v for k, v in s.items()}
                    for s in states]  # fmt: skip
            # merge works in float32: the same sum in float64, by hand
            base = merging.get("base")
            merged = {}
            for name, tensor in wide[0].items():
                if not tensor.is_floating_point():
                    merged[name] = tensor
                elif base is None:
                    merged[name] = sum(r.double() * s[name] for r, s in zip(row, wide, strict=True))
                else:
                    start = base[name].double()
                    merged[name] = start + merging["scale"] * count * sum(
                        r.double() * (s[name] - start) for r, s in zip(row, wide, strict=True)
                    )
            reference = _Double(copy.deepcopy(model).double())
            reference.model.load_state_dict(merged)
            expected.append(reference(pixels[i : i + 1].double()))
        expected = torch.cat(expected)
    return float((ours.double() - expected).abs().max() / expected.abs().max())


class _Double(nn.Module):
    """A classifier in float64 throughout (its own forward casts features to float32)."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.visual(pixels)
        features = features[0] if isinstance(features, tuple) else features
        return self.model.heads[HEAD](nn.functional.normalize(features, dim=-1))


@pytest.mark.parametrize(
    ("architecture", "layers", "count"),
    [
        ("ViT-B-32", 3, 2), ("ViT-B-32", 2, 4), ("ViT-L-14", 2, 2), ("RN50", None, 2),
        pytest.param("ViT-B-32", None, 2, marks=pytest.mark.slow),
        pytest.param("ViT-B-32", None, 4, marks=pytest.mark.slow),
        pytest.param("ViT-L-14", 4, 4, marks=pytest.mark.slow),
        pytest.param("RN50", None, 4, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_real_architectures_to_1e_5(architecture, layers, count):
    model = classifier(named(architecture, layers), 224)
    assert error_of(model, 224, count) < TOLERANCE


OPTIONS = {
    "class token": {},
    "average pool": {"pool_type": "avg"},
    "attentional pool": {"attentional_pool": True, "attn_pooler_queries": 4},
    # open_clip norms the context of this pool with its own width, which must be the embedding's
    "parallel attentional pools": {
        "embed": 32, "attentional_pool": "parallel", "attn_pooler_queries": 4,
    },
    "layer scale": {"ls_init_value": 0.1},
    "patch dropout is off": {"patch_dropout": 0.5},
    "no norm before": {"no_ln_pre": True},
    "norm of queries and keys": {"block_type": "custom", "qk_norm": True},
    "scaled heads and inner norms": {
        "block_type": "custom", "scale_heads": True, "scale_attn_inner": True, "scale_fc": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_vision_transformer(name):
    torch.manual_seed(0)
    assert error_of(classifier(vit(**OPTIONS[name]), 32), 32, 3) < TOLERANCE


def test_task_vectors_over_a_base():
    torch.manual_seed(0)
    assert error_of(classifier(vit(), 32), 32, 3, scale=0.3) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ViT-B-16-SigLIP", "convnext_base", "EVA02-B-16"])
def test_timm_towers(architecture):
    assert error_of(classifier(named(architecture), 224), 224, 2) < TOLERANCE


def test_one_hot_coefficients_return_that_expert():
    torch.manual_seed(0)
    model = classifier(vit(), 32)
    states = experts_of(model, 3)
    pixels = torch.randn(3, 3, 32, 32)
    exact = SamplewiseClassifier(model, states)(pixels, torch.eye(3), HEAD)
    for m, state in enumerate(states):
        model.load_state_dict(state)
        torch.testing.assert_close(exact[m], model(pixels, HEAD)[m], atol=1e-4, rtol=1e-5)


def test_task_vectors_have_merges_scale_where_none_is_given():
    torch.manual_seed(0)
    model = classifier(vit(), 32)
    base, *states = experts_of(model, 4)
    pixels, rows = torch.randn(BATCH, 3, 32, 32), coefficients_of(3)
    with torch.inference_mode():
        ours = SamplewiseClassifier(model, states, base=base)(pixels, rows, HEAD)
        for i, row in enumerate(rows):
            model.load_state_dict(merge(states, row.tolist(), base=base))
            expected = model(pixels[i : i + 1], HEAD)[0]
            torch.testing.assert_close(ours[i], expected, atol=1e-4, rtol=1e-5)


def test_differences_that_a_precision_does_not_hold_are_refused():
    model = classifier(vit(), 32)
    states = experts_of(model, 2)
    states[1] = dict(states[1])
    states[1]["visual.proj"] = states[1]["visual.proj"] + 1e30
    with pytest.raises(UserError, match=r"'visual.proj' of the experts.*not finite in float16"):
        SamplewiseClassifier(model, states, placement=Placement(dtype=torch.float16))


def test_samples_do_not_see_each_other():
    torch.manual_seed(0)
    model = classifier(vit(), 32)
    exact = SamplewiseClassifier(model, experts_of(model, 2))
    pixels, rows = torch.randn(4, 3, 32, 32), torch.tensor([[0.1, 0.9], [0.5, 0.5], [1, 0], [0, 1]])
    together = exact(pixels, rows, HEAD)
    for i in range(4):
        alone = exact(pixels[i : i + 1], rows[i : i + 1], HEAD)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-5)


def test_equal_parameters_stay_as_they_are():
    model = classifier(vit(), 32)
    first = dict(model.state_dict())
    moved = first | {"visual.conv1.weight": first["visual.conv1.weight"] + 1}
    exact = SamplewiseClassifier(model, [first, moved])
    kinds = {
        name: isinstance(getattr(module, attribute, None), Interpolated)
        for name in first
        for path, _, attribute in [name.rpartition(".")]
        for module in [exact.model.get_submodule(path)]
    }
    assert [name for name, carried in kinds.items() if carried] == ["visual.conv1.weight"]


class Odd(nn.Module):
    """A tower with an operation for which there is no rule."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 12))
        self.function = function

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.function(pixels.flatten(1)[:, :12], self.weight)


def test_an_operation_without_a_rule_is_named_and_clusters_are_offered():
    odd = Odd(lambda x, weight: torch.cumsum(weight, dim=0)[:, :1].T + x[:, :8])
    model = Classifier(odd, {HEAD: (CLASSES, 8)}).eval().requires_grad_(False)
    with pytest.raises(UserError) as caught:
        error_of(model, 4, 2)
    for part in ("cumsum", "'visual.weight'", "mixture.clusters"):
        assert part in str(caught.value)


def test_a_batch_that_is_not_first_is_refused():
    odd = Odd(lambda x, weight: nn.functional.linear(x[None], weight)[0])
    model = Classifier(odd, {HEAD: (CLASSES, 8)}).eval().requires_grad_(False)
    with pytest.raises(UserError, match="first dimension of"):
        error_of(model, 4, 2)


def test_the_check_notices_wrong_logits():
    torch.manual_seed(0)
    model = classifier(vit(), 32)
    states = experts_of(model, 2)
    exact = SamplewiseClassifier(model, states)

    def merged(row, experts=states) -> nn.Module:
        made = copy.deepcopy(model)
        made.load_state_dict(merge(experts, row))
        return made

    pixels = torch.randn(2, 3, 32, 32)
    assert check_samplewise(exact, merged, pixels, HEAD, name="vit") < TOLERANCE
    with pytest.raises(UserError, match="does not reproduce 'vit'"):
        check_samplewise(exact, lambda row: merged(row, states[::-1]), pixels, HEAD, name="vit")


def test_merged_weights_of_equal_coefficients_agree_with_merge():
    """The same sum as `merge`: (1 - lambda) theta_0 + lambda theta_1."""
    torch.manual_seed(0)
    model = classifier(vit(), 32)
    states = experts_of(model, 2)
    pixels = torch.randn(2, 3, 32, 32)
    ours = SamplewiseClassifier(model, states)(pixels, torch.tensor([[0.3, 0.7]] * 2), HEAD)
    model.load_state_dict(merge(states, [0.3, 0.7]))
    torch.testing.assert_close(ours, model(pixels, HEAD), atol=1e-4, rtol=1e-5)


def lora(state: dict, rank: int) -> dict:
    """A descendant whose linear weights differ by matrices of this rank."""
    generator = torch.Generator().manual_seed(5)
    tuned = dict(state)
    for name, tensor in state.items():
        if tensor.ndim == 2 and ("mlp" in name or "attn" in name):
            u = torch.randn(tensor.shape[0], rank, generator=generator)
            v = torch.randn(rank, tensor.shape[1], generator=generator)
            tuned[name] = tensor + 0.05 * u @ v
    return tuned


@pytest.mark.parametrize("vision", [{}, {"attentional_pool": True, "attn_pooler_queries": 4}])
def test_a_rank_that_suffices_changes_nothing(vision):
    torch.manual_seed(0)
    model = classifier(vit(**vision), 32)
    first = dict(model.state_dict())
    states = [first, lora(first, 2), lora(first, 3)]
    pixels, rows = torch.randn(BATCH, 3, 32, 32), coefficients_of(3)
    full = SamplewiseClassifier(model, states)(pixels, rows, HEAD)
    limited = SamplewiseClassifier(model, states, rank=3)
    carried = limited.model.visual.transformer.resblocks[0].mlp.c_fc.weight
    assert isinstance(carried, LowRank)
    assert carried.left.shape == (128, 2 * 3)
    torch.testing.assert_close(limited(pixels, rows, HEAD), full, atol=1e-4, rtol=1e-4)
    lower = SamplewiseClassifier(model, states, rank=1)(pixels, rows, HEAD)
    assert (lower - full).abs().max() > 1e-2


def test_factors_are_the_same_every_time_and_leave_the_generator_alone():
    model = classifier(vit(), 32)
    states = experts_of(model, 2)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two = (SamplewiseClassifier(model, states, rank=4) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pixels, rows = torch.randn(BATCH, 3, 32, 32), coefficients_of(2)
    assert torch.equal(one(pixels, rows, HEAD), two(pixels, rows, HEAD))


def test_an_expert_of_other_tensors_is_refused():
    model = nn.Linear(3, 2)
    whole = model.state_dict()
    with pytest.raises(ValueError, match="'bias'"):
        SamplewiseClassifier(model, [whole, {"weight": whole["weight"]}])
    with pytest.raises(ValueError, match="'scale'"):
        SamplewiseClassifier(model, [whole, whole], base=whole | {"scale": torch.ones(1)})


def test_only_the_tower_is_cast_and_limited():
    model = nn.ModuleDict({"tower": nn.Linear(8, 8), "head": nn.Linear(8, 8)})
    placement = Placement(dtype=torch.bfloat16, tower="tower.")
    exact = SamplewiseClassifier(model, experts_of(model, 2), rank=2, placement=placement)
    tower, head = (exact.model[name].weight for name in ("tower", "head"))
    assert (type(tower), tower.dtype) == (LowRank, torch.bfloat16)
    assert (type(head), head.dtype) == (Interpolated, torch.float32)
