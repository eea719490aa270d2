"""Tensors of another type than the architecture's are refused by name, in all experts alike too."""

import open_clip
import pytest
import torch

from dawin_ray.errors import UserError
from dawin_ray.method.merge import check_finite
from dawin_ray.models.experts import load_experts
from dawin_ray.models.spec import ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from dawin_ray.models.weights import check_types, unused
from tests.conftest import MODEL_CONFIG, expert_state, whole_state

PROJ = "visual.proj"


def load(small, *states, base=None):
    """Experts of these tensors, as if they had been read."""
    addresses = [f"{i}.pt" for i in range(len(states))]
    experts = tuple(ExpertConfig(name=f"e{i}", checkpoint=a) for i, a in enumerate(addresses))
    config = ModelConfig(architecture=small.config)
    read = dict(zip(addresses, states, strict=True)) | ({} if base is None else {"base.pt": base})
    spec = ModelSpec(config=config, experts=experts, base=base and "base.pt", heads=(HeadSpec(),))
    return load_experts(spec, read)


NO_FLOATING = {
    "int64": lambda t: t.long(),
    "int8": lambda t: t.to(torch.int8),
    "bool": lambda t: t > 0,
    "complex64": lambda t: t.to(torch.complex64),
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "sparse": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("name", [PROJ, "classification_head.weight"])
@pytest.mark.parametrize("to", NO_FLOATING.values(), ids=NO_FLOATING)
def test_a_floating_tensor_that_is_none_is_refused_in_all_alike_too(small, name, to):
    wrong = [expert_state(i) for i in range(2)]
    for state in wrong:
        state[name] = to(state[name])
    with pytest.raises(UserError) as caught:
        load(small, *wrong)
    assert repr(name) in str(caught.value)
    assert "'e0' ('0.pt')" in str(caught.value)


def test_the_second_expert_and_the_base_are_looked_at_too(small):
    right, wrong = expert_state(0), expert_state(1)
    wrong[PROJ] = wrong[PROJ].to(torch.int32)
    with pytest.raises(UserError, match=r"'visual.proj'.*'e1'.*torch.int32"):
        load(small, right, wrong)
    with pytest.raises(UserError, match=r"'visual.proj'.*'merge.base'.*torch.int32"):
        load(small, right, right, base=wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types_meet(small, dtype):
    other = {k: v.to(dtype) for k, v in expert_state(1).items()}
    assert load(small, expert_state(0), other).states[1][PROJ].dtype == dtype


def test_a_double_that_float32_does_not_hold_is_refused(small):
    wide = {k: v.double() for k, v in expert_state(1).items()}
    wide[PROJ] = wide[PROJ] + 1e300
    with pytest.raises(UserError, match=r"'visual.proj' of 'e1' holds .* NaN or infinite"):
        load(small, expert_state(0), wide)


def test_counters_stay_integers():
    expected = {"counter": torch.tensor(3)}
    check_types({"counter": torch.tensor(5, dtype=torch.int32)}, expected, "e", "a.pt")
    for wrong in (torch.tensor(3.0), torch.tensor(3.0).half(), torch.tensor(3j)):
        with pytest.raises(UserError, match=r"'counter'.*torch.int64"):
            check_types({"counter": wrong}, expected, "e", "a.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_that_a_cast_makes_infinite_are_refused(small, dtype):
    state = expert_state(0)
    state[PROJ][0, 0] = 1e30
    experts = load(small, state, expert_state(1))
    if dtype != torch.float16:  # the others hold it
        experts.classifier(experts.states[0], torch.device("cpu"), dtype)
        return
    with pytest.raises(
        UserError, match=r"'visual.proj' of cluster 3 .*float16.*precision: float32"
    ):
        experts.classifier(experts.states[0], torch.device("cpu"), dtype, "cluster 3")


def test_merged_weights_that_overflow_are_refused():
    with pytest.raises(UserError, match=r"'b' of the merge is not finite in float32"):
        check_finite(
            {"n": torch.tensor(1), "a": torch.ones(2), "b": torch.tensor([1, torch.nan])},
            "the merge",
        )
    check_finite({"a": torch.ones(2)}, "the merge")
    check_finite({}, "the merge")


def test_a_head_under_another_name_is_seen():
    model = open_clip.model.CLIP(**MODEL_CONFIG)
    assert unused(model, whole_state(0)) == []
    assert unused(model, expert_state(0)) == []
    custom = {
        f"text.{k}" if k.startswith("transformer") else k: v for k, v in whole_state(0).items()
    }
    assert unused(model, custom) == []
    found = unused(
        model, expert_state(0) | {"fc.weight": torch.ones(1), "head.bias": torch.ones(1)}
    )
    assert found == ["fc.weight", "head.bias"]
