"""What TIES counts of checkpoints as they are found: the tensors that base and experts share."""

import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.errors import UserError
from dawin_ray.method.ties import TiesConfig
from dawin_ray.models.found import find_models
from dawin_ray.models.spec import ExpertConfig, ModelConfig
from tests.conftest import expert_state, whole_state


def found_in(folder, small, base, experts):
    """The models of these state dicts."""
    paths = {name: str(folder / f"{name}.safetensors") for name in ("base", "e0", "e1")}
    for path, state in zip(paths.values(), (base, *experts), strict=True):
        save_file(state, path)
    named = [ExpertConfig(name=name, checkpoint=paths[name]) for name in ("e0", "e1")]
    return find_models(ModelConfig(architecture=small.config), named, paths["base"])


def size_of(state, *prefixes):
    return sum(v.numel() for k, v in state.items() if k.startswith(prefixes))


@pytest.fixture
def states():
    """A base with its text tower, and experts that keep of it what the reference's do."""
    base = whole_state(0)
    kept = {k: v for k, v in base.items() if k.startswith(("token_embedding", "ln_final"))}
    experts = [
        {k: v for k, v in expert_state(seed).items() if k.startswith("visual.")} | kept
        for seed in (1, 2)
    ]
    return base, experts


def test_the_share_is_of_what_base_and_experts_have_in_common(small, tmp_path, states):
    base, experts = states
    found = found_in(tmp_path, small, base, experts)
    tower, common = (size_of(base, *p) for p in (["visual."], ["visual.", "token_", "ln_final"]))
    trim = found.trim(TiesConfig(keep=0.001))
    assert (trim.values, trim.merged_values) == (common, tower)
    assert set(trim.kept) == set(trim.merged_kept) == {int(0.001 * common) + 1}
    alone = found.trim(TiesConfig(keep=0.001, over="tower"))
    assert (alone.values, alone.merged_values) == (tower, tower)
    assert set(alone.merged_kept) == {int(0.001 * tower) + 1}


def test_heads_and_what_is_no_number_to_subtract_do_not_count(small, tmp_path, states):
    base, experts = states
    for i, state in enumerate((base, *experts)):
        state["classification_head.weight"] = torch.full((3, 16), float(i))
        state["steps"] = torch.tensor([i])
        state["scale"] = torch.ones(i + 1)  # of another shape in each
    found = found_in(tmp_path, small, base, experts)
    common = size_of(base, "visual.", "token_", "ln_final")
    assert found.trim(TiesConfig()).values == common


def test_a_value_that_counts_has_to_be_a_number(small, tmp_path, states):
    base, experts = states
    experts[1]["ln_final.bias"] = torch.full((16,), torch.nan)
    found = found_in(tmp_path, small, base, experts)
    with pytest.raises(UserError, match=r"'ln_final.bias' of the checkpoint of 'e1' is not finite"):
        found.trim(TiesConfig())
    found.trim(TiesConfig(over="tower"))
