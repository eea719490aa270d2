"""A model whose logits are not finite predicts nothing: the run ends and says which it is.

Two experts, each sound, whose merge overflows: what one has in its norm, the other has in its
projection.
"""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.data.chunks import Chunk
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.engine.workers import named
from dawin_ray.errors import UserError
from dawin_ray.method.baselines import BaselinesConfig
from dawin_ray.models.experts import load_experts
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.predictions import Float32Sample, Predict
from tests.conftest import expert_state, make_images, write_tar
from tests.unit.passes.test_passes import ALL_CLASSES, NO_EVEN, make_fit, make_spec, shards_of

NOTHING_BESIDE = BaselinesConfig(even_interpolation=False, output_ensembles=False)
LABELS = [i % 3 for i in range(9)]


def opposed(seed: int, scale: float) -> dict[str, torch.Tensor]:
    """An expert that computes what it did, with larger weights here and smaller ones there."""
    state = expert_state(seed)
    for name in ("visual.ln_post.weight", "visual.ln_post.bias"):
        state[name] = state[name] * scale
    state["visual.proj"] = state["visual.proj"] / scale
    return state


@pytest.fixture(scope="module")
def spec(small, tmp_path_factory):
    """A spec of two such experts; both are sound."""
    folder = tmp_path_factory.mktemp("opposed")
    spec = make_spec(small, baselines=NOTHING_BESIDE)
    experts = []
    for i, (expert, scale) in enumerate(zip(spec.model.experts, (1e25, 1e-25), strict=True)):
        path = str(folder / f"{i}.safetensors")
        save_file(opposed(i, scale), path)
        experts.append(expert.model_copy(update={"checkpoint": path}))
    model = dataclasses.replace(spec.model, experts=tuple(experts))
    return dataclasses.replace(spec, model=model)


@pytest.fixture(scope="module")
def chunk(spec, tmp_path_factory) -> Chunk:
    path = write_tar(tmp_path_factory.mktemp("data") / "s.tar", make_images(9), LABELS)
    [shard] = shards_of(path)
    return next(iter(DecodeImages(load_experts(spec.model).preprocessing, 9, ALL_CLASSES)(shard)))


@pytest.fixture(scope="module")
def scored(spec, chunk):
    """Pass 1 of the experts alone, of which nothing is wrong."""
    return ScoreExperts(spec)(chunk)


SAMPLE = r"'s\.tar/000\d' in data set 'set' are not finite"


@pytest.mark.parametrize(
    ("baselines", "who"),
    [
        (NO_EVEN.model_copy(update={"static": (0.3,)}), r"the baseline 'static_0\.3'"),
        (BaselinesConfig(), "the evenly interpolated model"),
        (NO_EVEN.model_copy(update={"exact": True}), "the baseline 'exact'"),
        (NO_EVEN.model_copy(update={"random": True}), "the baseline 'random_uniform'"),
    ],
)
def test_pass_1_names_the_baseline_and_not_the_experts(spec, chunk, scored, baselines, who):
    assert scored.num_rows == 9
    stage = ScoreExperts(dataclasses.replace(spec, baselines=baselines))
    with pytest.raises(FloatingPointError, match=rf"{SAMPLE}: {who} overflows in float32.*scale"):
        stage(chunk)


def test_a_merged_model_isnamed_with_its_cluster(spec, chunk, scored):
    stage = Predict(spec, {"set": make_fit(0.35, 0.5, 0.65)})
    with pytest.raises(FloatingPointError, match=rf"{SAMPLE}: the model merged for cluster \d ov"):
        stage(chunk, scored)


def test_a_fit_that_is_compared_with_isnamed(spec, chunk, scored):
    one_hot = make_fit(1e-12)  # an expert alone, as good as
    fit = dataclasses.replace(one_hot, beside={"dawin_K1": make_fit(0.5)})
    stage = Predict(spec, {"set": fit})
    models = stage.models
    models.of(one_hot)
    models.merged[id(fit)] = [
        models.experts.classifier(models.experts.states[0], models.device, models.dtype)
    ]
    with pytest.raises(FloatingPointError, match=r"merged for cluster 0 of 'dawin_K1' overflows"):
        stage(chunk, scored)


def test_the_exact_mode_names_the_samples_own_coefficients(spec, chunk, scored):
    stage = Predict(dataclasses.replace(spec, exact=True), {"set": make_fit(0.5)})
    with pytest.raises(
        FloatingPointError, match=rf"{SAMPLE}: the model of its own coefficients \("
    ):
        stage(chunk, scored)


def test_the_float32_sample_says_that_it_is_it(spec, chunk):
    lower = dataclasses.replace(spec, precision="bfloat16", compared=frozenset({chunk.name}))
    sample = Float32Sample(lower, {"set": make_fit(0.5)}, load_experts(spec.model))
    with pytest.raises(
        FloatingPointError, match=r"In the sample that is scored in float32.*cluster"
    ):
        sample(chunk)


def test_one_infinite_logit_of_many_is_enough(small, chunk):
    """Minus infinity passes through a softmax as a zero."""
    stage = ScoreExperts(make_spec(small, baselines=NOTHING_BESIDE))
    head = stage.models[1].heads["checkpoint"]
    bias = head.bias.clone()
    bias[2] = -torch.inf
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
    with pytest.raises(FloatingPointError, match=rf"{SAMPLE}: expert 'e1' overflows"):
        stage(chunk)


def test_a_lower_precision_isnamed_with_its_remedy(small, chunk, monkeypatch):
    stage = ScoreExperts(make_spec(small, baselines=NOTHING_BESIDE))
    stage.spec = dataclasses.replace(stage.spec, precision="float16")
    head = stage.models[0].heads["checkpoint"]
    head.weight = torch.nn.Parameter(head.weight * torch.inf, requires_grad=False)
    with pytest.raises(FloatingPointError, match=r"'e0' overflows in float16.*precision: float32"):
        stage(chunk)


def test_weights_that_a_precision_does_not_hold_are_refused_before_a_sample(small, tmp_path):
    spec = make_spec(small, baselines=NOTHING_BESIDE, precision="float16")
    state = expert_state(1)
    state["visual.proj"][0, 0] = 1e30
    save_file(state, tmp_path / "a.safetensors")
    experts = (spec.model.experts[0],
               spec.model.experts[1].model_copy(
                   update={"checkpoint": str(tmp_path / "a.safetensors")}))  # fmt: skip
    wide = dataclasses.replace(spec, model=dataclasses.replace(spec.model, experts=experts))
    with pytest.raises(UserError, match=r"'visual.proj' of expert 'e1' is not finite in float16"):
        ScoreExperts(wide)
    fits = {"set": make_fit(0.5)}
    with pytest.raises(UserError, match=r"'visual.proj' of the model merged for cluster 0 \(coeff"):
        Predict(dataclasses.replace(wide, precision="float16"), fits).models.of(fits["set"])
    with pytest.raises(UserError, match=r"'visual.proj' of the experts.* not finite in float16"):
        Predict(dataclasses.replace(wide, exact=True), fits)


def test_it_ends_a_run_as_a_persons_mistake_with_its_message(chunk):
    with pytest.raises(UserError, match="which overflows"), named("pass 2", chunk):
        raise FloatingPointError("which overflows")
