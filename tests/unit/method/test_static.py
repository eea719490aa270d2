"""The one model of a static baseline, against its formula."""

import pytest
import torch

from dawin_ray.method.baselines import BaselinesConfig, methods_of
from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.static import static_weights
from dawin_ray.method.ties import TiesConfig, Trim, ties


def state(seed):
    return {
        "w": torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)),
        "steps": torch.tensor(seed),
    }


BASE, EXPERTS = state(9), [state(seed) for seed in range(3)]
TAU = [expert["w"] - BASE["w"] for expert in EXPERTS]
NAMES = ("a", "b", "c")


def made(baselines, experts=EXPERTS, base=BASE, scale=0.2):
    """Each method's merged `w`, by name."""
    config = BaselinesConfig(output_ensembles=False, **baselines)
    found = methods_of(config, NAMES[: len(experts)], CoefficientConfig(),
                       None if base is None else scale)  # fmt: skip
    trim = None if config.ties is None else Trim.of(base, experts, config.ties.keep)
    return {
        m.name: static_weights(m, experts, base, scale, trim)["w"] for m in found if m.merges
    }  # fmt: skip


def test_each_is_its_formula():
    asked = {
        "averaging": True, "task_arithmetic": (0.1, 0.5), "ties": TiesConfig(keep=0.4, scale=0.7),
        "base": True,
    }  # fmt: skip
    found = made(asked)
    expected = {
        "even_interpolation": BASE["w"] + 0.2 * sum(TAU),
        "averaging": sum(expert["w"] for expert in EXPERTS) / 3,
        "task_arithmetic_0.1": BASE["w"] + 0.1 * sum(TAU),
        "task_arithmetic_0.5": BASE["w"] + 0.5 * sum(TAU),
        "ties": ties(BASE, EXPERTS, Trim.of(BASE, EXPERTS, 0.4), 0.7)["w"],
        "base": BASE["w"],
    }
    assert list(found) == list(expected)
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, msg=name)


def test_averaging_has_no_part_of_the_base():
    with_base, without = made({"averaging": True}), made(
        {"averaging": True, "even_interpolation": False}, base=None
    )  # fmt: skip
    assert torch.equal(with_base["averaging"], without["averaging"])


@pytest.mark.parametrize("base", [None, BASE], ids=["none", "base"])
def test_the_static_curve_is_as_the_job_merges(base):
    found = made({"static": (0.25,), "even_interpolation": False}, EXPERTS[:2], base)
    a, b = (expert["w"] for expert in EXPERTS[:2])
    curve = 0.75 * a + 0.25 * b
    if base is not None:
        curve = base["w"] + 0.2 * 2 * (curve - base["w"])
    torch.testing.assert_close(found["static_0.25"], curve)
