"""TIES against a transcription of the paper in numpy, over one long vector."""

import numpy as np
import pytest
import torch

from dawin_ray.method.ties import Trim, ties

SHAPES = {"w": (3, 4), "running_mean": (5,), "scale": ()}
LEFT_OVER = {"token_embedding": (40,)}  # of a text tower, the same in all


def state(seed, shapes=SHAPES, spread=1.0):
    draw = torch.Generator().manual_seed(seed)
    return {k: spread * torch.randn(shape, generator=draw) for k, shape in shapes.items()}


def tasks(count, base, spread=1.0):
    return [
        {k: v + change for (k, v), change in zip(base.items(), state(s, {
            k: v.shape for k, v in base.items()
        }, spread).values(), strict=True)}
        for s in range(100, 100 + count)
    ]  # fmt: skip


def flat(tensors):
    return np.concatenate([tensors[k].numpy().ravel() for k in sorted(tensors)])


def by_the_paper(base, experts, keep, scale):
    """Trim, elect sign, sum what agrees: rows are tasks, columns the values of all tensors."""
    tau = np.stack([flat(expert) - flat(base) for expert in experts])
    for row in tau:
        rank = max(1, len(row) - int(keep * len(row)))
        row[np.abs(row) < np.sort(np.abs(row))[rank - 1]] = 0
    signs = np.sign(tau.sum(axis=0))
    signs[signs == 0] = np.sign(signs.sum())
    agreed = np.where(np.sign(tau) == signs, tau, 0).sum(axis=0)
    return flat(base) + scale * agreed


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("keep", [0.2, 0.5, 1.0])
def test_it_is_the_papers_over_one_long_vector(count, keep):
    base = state(0)
    experts = tasks(count, base)
    merged = ties(base, experts, Trim.of(base, experts, keep), 0.3)
    assert {k: v.shape for k, v in merged.items()} == {k: v.shape for k, v in base.items()}
    np.testing.assert_allclose(flat(merged), by_the_paper(base, experts, keep, 0.3), atol=1e-6)


def test_the_share_is_of_all_values_and_the_threshold_one_of_each_task():
    base = {"small": torch.zeros(10), "large": torch.zeros(10)}
    experts = [
        {"small": torch.arange(1.0, 11) / 100, "large": torch.arange(1.0, 11)},
        {"small": torch.arange(1.0, 11), "large": torch.zeros(10)},
    ]
    trim = Trim.of(base, experts, keep=0.3)
    assert trim.thresholds == (4, 4)  # the 14th smallest of 20
    assert trim.kept == (7, 7)  # int(0.3 * 20) + 1
    merged = ties(base, experts, trim, scale=1)
    assert merged["large"].tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 9, 10]
    assert merged["small"].tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 9, 10]


def test_values_that_only_count_let_more_of_the_merged_ones_be_kept():
    """As the reference's text tower does: unchanged, but a part of what 20 % is of."""
    base = state(0) | state(1, LEFT_OVER)
    experts = [expert | state(1, LEFT_OVER) for expert in tasks(3, state(0))]
    whole = Trim.of(base, experts, 0.2, merged=SHAPES)
    alone = Trim.of({k: base[k] for k in SHAPES}, experts, 0.2)
    assert (whole.values, whole.merged_values) == (58, 18)
    assert whole.merged_kept == whole.kept == (12, 12, 12)  # int(0.2 * 58) + 1
    assert (alone.values, alone.merged_values, alone.merged_kept) == (18, 18, (4, 4, 4))
    # what is left out of the merge changes nothing of the rest
    inside = ties({k: base[k] for k in SHAPES}, experts, whole)
    together = ties(base, experts, whole)
    assert all(torch.equal(inside[k], together[k]) for k in SHAPES)
    assert torch.equal(together["token_embedding"], base["token_embedding"])


@pytest.mark.parametrize(("sign", "expected"), [(1, 2.0), (-1, -2.0)])
def test_a_balance_of_signs_goes_with_the_majority(sign, expected):
    base = {"w": torch.zeros(4)}
    others = sign * torch.tensor([3.0, 4, 5])
    experts = [{"w": torch.cat([torch.tensor([value]), others])} for value in (2.0, -2.0)]
    trim = Trim.of(base, experts, keep=1)
    assert trim.majority == sign
    assert ties(base, experts, trim, scale=1)["w"][0] == expected


def test_counters_are_the_bases_halves_meet_floats_and_inputs_stay_as_they_are():
    base = state(0) | {"steps": torch.tensor(7)}
    experts = [expert | {"steps": torch.tensor(9)} for expert in tasks(2, state(0))]
    half = [{k: v.half() if k == "w" else v for k, v in expert.items()} for expert in experts]
    before = {k: v.clone() for k, v in base.items()}
    merged = ties(base, half, Trim.of(base, half, 0.5))
    assert merged["steps"] == 7
    assert merged["w"].dtype == torch.float32
    merged["steps"] += 1
    merged["w"] += 1
    assert all(torch.equal(base[k], before[k]) for k in base)
    assert Trim.of(base, half, 0.5).values == 18


def test_experts_that_are_the_base_change_nothing():
    base = state(0)
    trim = Trim.of(base, [base, base], 0.2)
    assert (trim.thresholds, trim.majority) == ((0, 0), 0)
    merged = ties(base, [base, base], trim)
    assert all(torch.equal(merged[k], base[k]) for k in base)
