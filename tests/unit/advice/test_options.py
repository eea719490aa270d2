"""Each mode as a job: what it changes, and where there is none."""

import dataclasses

import numpy as np
import pytest

from dawin_ray.advice.options import (
    CLUSTERED,
    EXACT,
    FIT_FILE,
    fit_of,
    kinds_of,
    option,
    ordered,
    weights_of,
)
from dawin_ray.config import make_job
from dawin_ray.job import forwards_of, prepare
from dawin_ray.method import EVEN
from tests.conftest import make_images, write_folder


@pytest.fixture(scope="module")
def values(small, tmp_path_factory):
    root = tmp_path_factory.mktemp("options")
    write_folder(root / "data", make_images(6), list(range(6)))
    return small.job(root / "run", [{"name": "d", "path": str(root / "data")}])


@pytest.fixture(scope="module")
def prepared(values):
    return prepare(make_job(values))


def test_the_modes_of_a_clustered_job(values, prepared):
    own = option("clustered", CLUSTERED, values, prepared)
    assert own.values == values
    assert own.what == "DaWin, K = 2"
    exact = option("exact", EXACT, values, prepared)
    assert exact.values == values | {"mixture": {"clusters": "exact"}}
    assert forwards_of(exact.job).passes == 1
    even = option("static", EVEN, values, prepared)
    assert even.values == values | {
        "mixture": {"clusters": 1},
        "fit": {"from": FIT_FILE, "dataset": "d"},
        "baselines": {"even_interpolation": False},
    }
    assert even.weights == (0.5, 0.5)
    assert dataclasses.asdict(forwards_of(even.job)) == {
        "experts": 2, "static": 0, "samplewise": 0, "merged": 1, "exact": 0, "passes": 1
    }  # fmt: skip
    plain = option("plain", "expert_1", values, prepared)
    assert plain.what == "expert_1 alone"
    assert "baselines" not in plain.values
    assert ordered({o.mode: o for o in (exact, plain, own, even)}) == [
        "plain", "static", "clustered", "exact"
    ]  # fmt: skip
    assert values["mixture"] == {"clusters": 2}  # none of it was changed


def test_an_exact_job_has_a_clustered_one_too(values, prepared):
    exact = values | {"mixture": {"clusters": "exact", "exact_rank": 4}}
    as_exact = dataclasses.replace(prepared, job=make_job(exact))
    assert option("exact", EXACT, exact, as_exact).values == exact
    assert option("clustered", CLUSTERED, exact, as_exact).values["mixture"] == {"clusters": 3}


def test_fits_beside_go_where_no_mixture_is_fitted(values, prepared):
    beside = values | {"baselines": {"fits": [{"clusters": 5}], "static": [0.3]}}
    with_fits = dataclasses.replace(prepared, job=make_job(beside))
    for mode, kind in (("exact", EXACT), ("plain", "expert_0")):
        found = option(mode, kind, beside, with_fits)
        assert found.values["baselines"] == {"static": [0.3]}


def test_where_one_fit_is_not_enough_the_answers_are_a_baselines(values, prepared):
    classes = {"d": "a", "e": "b"}
    shards = prepared.shards | {"e": prepared.shards["d"]}
    texts = prepared.texts | {"e": {}}
    several = dataclasses.replace(
        prepared, shards=shards, texts=texts,
        fingerprint={**prepared.fingerprint, "classes": classes},
    )  # fmt: skip
    static = option("static", "static_0.75", values, several)
    assert static.values == values | {"baselines": {"static": [0.75]}}
    assert (static.column, static.weights) == ("baseline_prediction", None)
    even = option("static", EVEN, values, several)
    assert even.values["baselines"] == {"even_interpolation": True}
    plain = option("plain", "expert_1", values, several)
    assert (plain.values, plain.column) == (values, "expert_prediction")


def test_a_mode_that_the_job_cannot_have_says_why(values, prepared):
    growing = values | {"mode": "append", "mixture": {"clusters": "exact"}}
    as_growing = dataclasses.replace(prepared, job=make_job(growing))
    found = option("clustered", CLUSTERED, growing, as_growing)
    assert "mode: append" in found
    assert option("plain", "expert_1", growing, as_growing).job.mode == "append"


def test_which_kinds_there_are(values):
    job = make_job(values)
    assert kinds_of(job, True)["plain"] == ("expert_0", "expert_1")
    assert kinds_of(job, False)["plain"] == ("expert_1",)  # the one that was tuned
    assert kinds_of(job, True)["static"] == (EVEN, "static_0.25", "static_0.75")
    assert kinds_of(job, False)["static"] == (EVEN,)


def test_a_fit_of_one_model_gives_its_weights_to_every_sample():
    for kind, wanted in (("b", (0, 1)), (EVEN, (0.5, 0.5)), ("static_0.25", (0.75, 0.25))):
        mixture = fit_of(weights_of(kind, ("a", "b")), 10).mixture
        assert mixture.means[0] == pytest.approx(wanted)
        shares = np.array([[0.0, 1.0], [0.3, 0.7], [1.0, 0.0]])
        assert mixture.predict(shares).tolist() == [0, 0, 0]
    one = weights_of("b", ("a", "b"))
    assert np.float32(one[1]) == 1  # as weights are merged
