"""Weights that the device cannot hold are refused before they are put there, with the figures."""

import pytest
import torch

from dawin_ray.errors import UserError
from dawin_ray.method import BaselinesConfig
from dawin_ray.method.samplewise.tensors import Symbol
from dawin_ray.models import load_experts
from dawin_ray.passes import memory, single_pass
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.interpolated import SamplewiseModels
from dawin_ray.passes.memory import check_memory, footprint
from dawin_ray.passes.pixels import PixelFeed
from tests.unit.passes.test_passes import make_spec

ALONE = BaselinesConfig(even_interpolation=False, output_ensembles=False)
BOTH = ("experts", "exact")


def bytes_of(module):
    """Weights of a model, the parts of samplewise tensors included."""
    held = [
        value
        for layer in module.modules()
        for value in (vars(layer) | layer._parameters | layer._buffers).values()
        if isinstance(value, torch.Tensor)
    ]
    parts = [list(vars(value).values()) if isinstance(value, Symbol) else [value] for value in held]
    return sum(t.nbytes for part in parts for t in part if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("rank", [None, 2])
def test_the_footprint_is_what_the_models_take(small, rank):
    spec = make_spec(small, exact=True, exact_rank=rank, baselines=ALONE)
    experts = load_experts(spec.model)
    found = list(footprint(spec, experts, BOTH).values())
    score = ScoreExperts(spec, experts)
    exact = SamplewiseModels(
        spec, experts, PixelFeed(experts.preprocessing, score.device, torch.float32)
    )
    assert found[0] == pytest.approx(sum(map(bytes_of, score.models)), rel=0.02)
    assert found[1] == pytest.approx(bytes_of(exact.model), rel=0.02)
    assert len(found) == (2 if rank is None else 3)  # of limited rank, a sample at full rank


def test_the_float32_sample_takes_what_it_is_compared_with_and_more(small):
    spec = make_spec(small, exact=True, precision="bfloat16", baselines=ALONE)
    plain, exact, compared = footprint(spec, load_experts(spec.model), BOTH).values()
    assert compared == pytest.approx(2 * (plain + exact), rel=0.1)


def test_baselines_count(small):
    experts = load_experts(make_spec(small).model)

    def total(**baselines):
        spec = make_spec(small, baselines=ALONE.model_copy(update=baselines))
        return sum(footprint(spec, experts, ("experts",)).values())

    one = total() / 2
    assert total(even_interpolation=True) == 3 * one
    assert total(exact=True) == 4 * one  # two parts


def test_what_does_not_fit_is_refused_with_the_figures(small, monkeypatch):
    spec = make_spec(small, exact=True, baselines=ALONE)
    experts = load_experts(spec.model)
    needed = sum(footprint(spec, experts, BOTH).values())
    monkeypatch.setattr(memory, "free_memory", lambda device: needed)
    check_memory(spec, experts, BOTH)
    monkeypatch.setattr(memory, "free_memory", lambda device: needed - 1)
    with pytest.raises(UserError, match=r"2 models, .* P = 2 parts for the exact .* GB free"):
        check_memory(spec, experts, BOTH)
    with pytest.raises(UserError, match="The weights alone take"):
        single_pass(spec, {}).make()
