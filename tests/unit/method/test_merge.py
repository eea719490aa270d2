import pytest
import torch

from dawin_ray.errors import UserError
from dawin_ray.method.merge import add_task_vectors, check_mergeable, interpolate, merge


def state(seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(3, 4, generator=g).to(dtype),
        "running_mean": torch.randn(4, generator=g).to(dtype),
        "num_batches_tracked": torch.tensor(10 * seed + 7),
    }


def test_a_one_hot_coefficient_returns_that_expert_to_the_last_bit():
    experts = [state(s) for s in range(3)]
    for m in range(3):
        merged = interpolate(experts, [float(i == m) for i in range(3)])
        for name in ("w", "running_mean"):
            assert torch.equal(merged[name], experts[m][name])


def test_two_experts_are_interpolated_linearly_buffers_included():
    a, b = state(0), state(1)
    merged = interpolate([a, b], [0.75, 0.25])
    for name in ("w", "running_mean"):
        torch.testing.assert_close(merged[name], 0.75 * a[name] + 0.25 * b[name])


def test_counters_are_the_bases_and_inputs_stay_as_they_are():
    a, b = state(0), state(1)
    before = {k: v.clone() for k, v in a.items()}
    merged = interpolate([a, b], [0.5, 0.5])
    assert merged["num_batches_tracked"] == 7
    merged["num_batches_tracked"] += 1
    merged["w"] += 1
    assert all(torch.equal(a[k], before[k]) for k in a)


def test_task_vectors_are_scaled_by_s_times_m():
    base, tasks, coefficients = state(9), [state(s) for s in range(3)], [0.5, 0.3, 0.2]
    merged = add_task_vectors(base, tasks, coefficients, 0.3)
    expected = base["w"] + 0.3 * 3 * sum(
        c * (t["w"] - base["w"]) for c, t in zip(coefficients, tasks, strict=True)
    )
    torch.testing.assert_close(merged["w"], expected)


def test_task_vectors_at_scale_one_over_m_are_the_interpolation():
    base, tasks, coefficients = state(9), [state(0), state(1)], [0.4, 0.6]
    torch.testing.assert_close(
        merge(tasks, coefficients, base=base, scale=0.5)["w"], merge(tasks, coefficients)["w"]
    )


def test_half_and_single_precision_meet_in_float32():
    a, b = state(0, torch.float16), state(1)
    check_mergeable({"a": a, "b": b})
    merged = interpolate([a, b], [0.5, 0.5])["w"]
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, 0.5 * a["w"].float() + 0.5 * b["w"])


def without(name):
    return {k: v for k, v in state(1).items() if k != name}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (without("w"), "'b' has no tensor 'w'"),
        (state(1) | {"extra": torch.ones(1)}, "'a' has no tensor 'extra'"),
        (state(1) | {"w": torch.ones(3, 5)}, r"'w' has shape \[3, 5\] in 'b' but \[3, 4\] in 'a'"),
        (state(1) | {"w": torch.ones(3, 4).long()}, "'w' is torch.int64 in 'b'"),
        (state(1) | {"w": torch.full((3, 4), torch.nan)}, "'w' of 'b' holds 12 NaN"),
        (state(1) | {"running_mean": torch.tensor([1, torch.inf, 1, 1])}, "'running_mean' of 'b'"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_the_tensors_name(other, message):
    with pytest.raises(UserError, match=message):
        check_mergeable({"a": state(0), "b": other})


def test_a_fault_of_the_first_checkpoint_is_found_too():
    w = torch.ones(3, 4)
    w[0, 0] = torch.nan
    with pytest.raises(UserError, match="'w' of 'a' holds 1 NaN"):
        check_mergeable({"a": state(0) | {"w": w}, "b": state(1)})
