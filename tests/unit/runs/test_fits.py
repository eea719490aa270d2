"""mixture.json and fit.json come back as they were; older ones too, and newer ones do not."""

import json

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.method.fit import Fit
from dawin_ray.method.mixture import Mixture
from dawin_ray.records import read_record
from dawin_ray.runs.fits import (
    FitEntry,
    GroupFit,
    Mixtures,
    SavedFitConfig,
    SavedFits,
    load_saved,
    saved_reference,
)
from dawin_ray.runs.layout import FIT, MIXTURE
from dawin_ray.statistics import ScoredRows


def fit() -> Fit:
    mixture = Mixture(
        concentrations=np.array([[1.5, 2.0], [0.1, 7.0]]), weights=np.array([0.3, 0.7]),
        mean_log_likelihood=-1 / 3, converged=True, iterations=7, samples=9,
    )  # fmt: skip
    return Fit(samples=9, mixture=mixture, source="samples", beside={"other": Fit(samples=9)})


def same(one: Fit, other: Fit) -> bool:
    return json.dumps(one.to_dict()) == json.dumps(other.to_dict())


@pytest.fixture
def mixtures(run) -> Mixtures:
    groups = {
        "joint": GroupFit(datasets=("a", "b"), warnings=("few samples",), fit=fit()),
        "c": GroupFit(datasets=("c",), fit=Fit()),
    }
    found = Mixtures(experts=("x", "y"), fits=groups)
    found.write(run)
    return found


def test_mixtures_come_back_by_data_set(run, mixtures):
    found = Mixtures.read(run)
    assert found.experts == ("x", "y")
    assert found.fits["joint"].warnings == ("few samples",)
    assert found.of_datasets.keys() == {"a", "b", "c"}
    assert all(same(found.of_datasets[name], fit()) for name in "ab")
    assert same(found.of_datasets["c"], Fit())


def test_the_keys_of_a_group_stand_beside_those_of_its_fit(run, mixtures):
    content = run.read_json(MIXTURE)
    assert content.keys() == {"version", "experts", "fits"}
    own = {"datasets": ["a", "b"], "warnings": ["few samples"]}
    assert content["fits"]["joint"] == own | fit().to_dict()


def test_mixtures_without_a_version_are_read_and_newer_ones_refused(run, mixtures):
    content = run.read_json(MIXTURE)
    del content["version"]
    run.write_json(MIXTURE, content)
    assert Mixtures.read(run).of_datasets.keys() == {"a", "b", "c"}
    run.write_json(MIXTURE, content | {"version": 2})
    with pytest.raises(UserError, match=r"mixture\.json' has version 2.*a newer dawin_ray"):
        Mixtures.read(run)


@pytest.mark.parametrize("key", ["mixture", "samples", "datasets"])
def test_a_fit_that_lacks_something_is_told_by_its_file(run, mixtures, key):
    content = run.read_json(MIXTURE)
    del content["fits"]["joint"][key]
    run.write_json(MIXTURE, content)
    with pytest.raises(UserError, match=rf"mixture\.json' is damaged: fits\.joint.*{key}"):
        Mixtures.read(run)


@pytest.fixture
def saved(run) -> str:
    """The address of a fit.json of the data set `a`."""
    draw = np.random.default_rng(0)
    rows = ScoredRows.of(
        entropy=draw.random((9, 2)), coefficient=draw.dirichlet([1, 1], 9),
        cluster=np.array([0] * 4 + [1] * 5), expert_prediction=np.tile([0, 1], (9, 1)),
    )  # fmt: skip
    entry = FitEntry.of(fit(), ("x", "y"), rows, count=3, classes="c", texts={"names": "n"})
    SavedFits(code="1", names=("x", "y"), identity={"scale": 1.0}, datasets={"a": entry}).write(run)
    return f"{run.address}/{FIT}"


def test_a_saved_fit_is_applied_with_what_was_read_of_it(saved, run):
    config = SavedFitConfig(**{"from": run.address, "dataset": "a"})
    found = load_saved(config, {"scale": 1.0}, [("new", "c")], {"new": {"names": "n"}})
    assert same(found.fit, fit())
    there = read_record(SavedFits, run.read_bytes(FIT), FIT).datasets["a"]
    assert found.entry.entropy == there.entropy
    assert found.entry.coefficient == there.coefficient
    assert (found.entry.clusters, found.entry.disagreements) == ((4, 5), 9)
    assert len(found.digest) == 64
    reference = saved_reference(f"{saved}#a", {"scale": 1.0, "coefficient": 1}, [("new", "c")],
                                {"new": {"names": "n"}})  # fmt: skip
    assert reference.median.shape == (2,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"identity": {"scale": 2.0}}, "scale: 2.0 there, 1.0 here"),
        ({"datasets": {}}, "has no data set 'a'"),
        ({"version": 2}, "has version 2, and this program reads version 3"),
        ({"version": 4}, "has version 4"),
        ({"datasets": {"a": {}}}, "is damaged"),
    ],
)
def test_a_saved_fit_of_something_else_is_refused(saved, run, change, told):
    run.write_json(FIT, run.read_json(FIT) | change)
    config = SavedFitConfig(**{"from": saved, "dataset": "a"})
    with pytest.raises(UserError, match=told):
        load_saved(config, {"scale": 1.0}, [("new", "c")], {"new": {"names": "n"}})
