"""What a run's values depend on: a key that came later and changes nothing is none of it.

And a changed default of a fit is another job; one that has not changed is the same as ever.
"""

import pytest

from dawin_ray.config import make_job
from dawin_ray.data.config import DatasetConfig
from dawin_ray.errors import UserError
from dawin_ray.job.fingerprint import LATER, fitting_of, values_of
from dawin_ray.method.baselines import BaselinesConfig
from dawin_ray.runs import RunDirectory
from tests.unit.test_config import job

# as the fingerprints of 0.1 have it, whatever the number of experts
OLD = {
    "clusters": 3, "exact_rank": None, "max_clusters": 8, "estimator": "moments", "restarts": 3,
    "seed": 1, "tolerance": 1e-4, "max_iterations": 1000,
}  # fmt: skip


def values(**sections):
    return values_of(make_job(job(**sections)).model_dump(mode="json", by_alias=True))


def test_a_later_key_is_left_out_where_it_changes_nothing():
    found = values()
    assert found["baselines"].keys() == BaselinesConfig.model_fields.keys() - LATER["baselines"]
    assert LATER["baselines"].items() <= BaselinesConfig().model_dump(mode="json").items()
    (dataset,) = found["datasets"]
    assert dataset.keys() == DatasetConfig.model_fields.keys() - LATER["datasets"]
    assert LATER["datasets"].keys() < DatasetConfig.model_fields.keys()
    assert "calibration" not in found["coefficient"]
    nested = values(baselines={"coefficients": [{"metric": "margin"}]})["baselines"]["coefficients"]
    assert nested == [{"metric": "margin", "target": None, "offset_adjustment": False,
                       "reference": None, "strength": 1.0}]  # fmt: skip
    used = job_of(2, coefficient={"calibration": "c"}).model_dump(mode="json", by_alias=True)
    assert values_of(used)["coefficient"]["calibration"] == "c"


def test_it_is_told_where_it_changes_something():
    ties = {"keep": 0.2, "scale": 0.3, "over": "tower"}
    found = values(baselines={"ties": ties, "averaging": True}, merge={"base": "b.pt"})["baselines"]
    assert found["ties"] == ties
    assert found["averaging"] is True
    assert not found.keys() & {"base", "task_arithmetic", "own_expert"}
    (dataset,) = values(datasets=[{"name": "d", "path": "d", "expert": "fine_tuned"}])["datasets"]
    assert dataset["expert"] == "fine_tuned"
    assert "head" not in dataset


def job_of(experts, **sections):
    return make_job({
        "run_dir": "out", "model": {"architecture": "ViT-B-32"},
        "experts": [{"name": n, "checkpoint": f"{n}.pt"} for n in "abcdefgh"[:experts]],
        "datasets": [{"name": "d", "path": "d"}], **sections,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("experts", "sections", "changed"),
    [
        (2, {}, {}),
        (2, {"mixture": {"clusters": "auto"}}, {"clusters": "auto"}),
        (3, {"mixture": {"clusters": 1}}, {"clusters": 1}),
        (8, {"mixture": {"clusters": "exact"}}, {"clusters": "exact"}),
        (8, {"mixture": {"estimator": "moments"}}, {}),
        (8, {"fit": {"from": "RUN", "dataset": "d"}}, {}),
    ],
    ids=str,
)
def test_what_is_fitted_as_ever_has_the_old_fingerprint(experts, sections, changed):
    assert fitting_of(job_of(experts, **sections)) == {"mixture": OLD | changed}


@pytest.mark.parametrize(
    ("experts", "sections"),
    [
        (3, {}),
        (8, {"mixture": {"clusters": "auto"}}),
        (8, {"mixture": {"clusters": 1}, "baselines": {"fits": [{"clusters": 3}]}}),
        (2, {"mixture": {"estimator": "maximum_likelihood", "restarts": 3, "tolerance": 1e-4}}),
    ],
    ids=str,
)
def test_an_old_run_is_not_resumed_with_another_fit(tmp_path, experts, sections):
    ours = fitting_of(job_of(experts, **sections))
    old = OLD | {
        key: value
        for key, value in sections.get("mixture", {}).items()
        if key in ("clusters", "estimator")
    }
    run = RunDirectory(str(tmp_path / "run"))
    run.open({"job": {"mixture": old}}, "")
    with pytest.raises(UserError, match=r"likelihood|estimator"):
        run.state({"job": ours})


def test_a_fit_beside_the_job_has_its_own_default():
    made = job_of(8, mixture={"clusters": 1}, baselines={"fits": [{"clusters": 3}]})
    (beside,) = made.baselines.fits
    assert made.mixture.for_experts(8).estimator == "moments"
    assert beside.mixture(made.mixture).for_experts(8).estimator == "maximum_likelihood"
