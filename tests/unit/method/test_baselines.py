"""Which methods a job compares DaWin with: their names, their order, and what two of them share."""

import pytest
from pydantic import ValidationError

from dawin_ray.method.baselines import BaselinesConfig, methods_of
from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.ties import TiesConfig

EXPERTS = ("a", "b", "c")
ALL = BaselinesConfig(
    own_expert=True, averaging=True, task_arithmetic=(0.3, 0.4, 0.3), ties=TiesConfig(), base=True,
    random=True,
)  # fmt: skip


def methods(baselines, scale=0.3, **coefficient):
    found = methods_of(baselines, EXPERTS, CoefficientConfig(**coefficient), scale)
    return {method.name: method for method in found}


def test_they_stand_in_the_order_of_their_columns():
    assert list(methods(ALL)) == [
        *EXPERTS, "even_output_ensemble", "dynamic_output_ensemble", "selection", "own_expert",
        "even_interpolation", "averaging", "task_arithmetic_0.3", "task_arithmetic_0.4", "ties",
        "base", "random_uniform",
    ]  # fmt: skip


def test_what_has_the_same_weights_is_merged_once():
    """Even interpolation of task vectors is task arithmetic, without a base it is averaging."""
    assert methods(ALL)["task_arithmetic_0.3"].same_as == "even_interpolation"
    assert {n for n, m in methods(ALL).items() if m.merges} == {
        "even_interpolation", "averaging", "task_arithmetic_0.4", "ties", "base",
    }  # fmt: skip
    averaging = BaselinesConfig(averaging=True)
    assert methods(averaging, None)["averaging"].same_as == "even_interpolation"
    assert methods(averaging)["averaging"].merges
    alone = ALL.model_copy(update={"even_interpolation": False})
    assert methods(alone)["task_arithmetic_0.3"].merges
    # pseudo labels of the merged model run it in any case
    merged = {"metric": "cross_entropy", "target": "soft_merged"}
    assert not methods(alone, **merged)["task_arithmetic_0.3"].merges


def test_what_knows_labels_or_the_task_is_a_bound():
    oracle = ALL.model_copy(update={"oracle": True})
    assert {n for n, m in methods(oracle).items() if m.is_bound} == {"own_expert", "oracle"}


def test_nothing_new_is_on_unless_it_is_asked_for():
    assert [*methods(BaselinesConfig())] == [
        *EXPERTS, "even_output_ensemble", "dynamic_output_ensemble", "selection",
        "even_interpolation",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"ties": {"keep": 0}}, {"ties": {"keep": 20}}, {"task_arithmetic": [0]}]
)
def test_shares_and_scales_have_bounds(wrong):
    with pytest.raises(ValidationError, match=r"greater than 0|less than or equal to 1"):
        BaselinesConfig(**wrong)


def test_those_that_need_a_base_are_known():
    assert ALL.of_task_vectors == ["task_arithmetic", "ties", "base"]
    assert not BaselinesConfig(averaging=True).of_task_vectors
