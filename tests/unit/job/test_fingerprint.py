"""What a run's values depend on: a key that came later and changes nothing is none of it."""

from dawin_ray.config import make_job
from dawin_ray.data.config import DatasetConfig
from dawin_ray.job.fingerprint import LATER, values_of
from dawin_ray.method.baselines import BaselinesConfig
from tests.unit.test_config import job


def values(**sections):
    return values_of(make_job(job(**sections)).model_dump(mode="json", by_alias=True))


def test_a_later_key_is_left_out_where_it_changes_nothing():
    found = values()
    assert found["baselines"].keys() == BaselinesConfig.model_fields.keys() - LATER["baselines"]
    assert LATER["baselines"].items() <= BaselinesConfig().model_dump(mode="json").items()
    (dataset,) = found["datasets"]
    assert dataset.keys() == DatasetConfig.model_fields.keys() - LATER["datasets"]
    assert LATER["datasets"].keys() < DatasetConfig.model_fields.keys()


def test_it_is_told_where_it_changes_something():
    ties = {"keep": 0.2, "scale": 0.3, "over": "tower"}
    found = values(baselines={"ties": ties, "averaging": True}, merge={"base": "b.pt"})["baselines"]
    assert found["ties"] == ties
    assert found["averaging"] is True
    assert not found.keys() & {"base", "task_arithmetic", "own_expert"}
    (dataset,) = values(datasets=[{"name": "d", "path": "d", "expert": "fine_tuned"}])["datasets"]
    assert dataset["expert"] == "fine_tuned"
    assert "head" not in dataset
