"""A calibration's file: read as it was written, refused where it does not hold."""

import dataclasses
import json

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs import CalibratedDataset, Calibration, Gain, identity_of_calibration

IDENTITY = {
    "architecture": "a", "experts": [{"sha256": "x", "temperature": 1.0},
    {"sha256": "y", "temperature": 2.0}], "base": None, "scale": 0.3, "preprocessing": {"size": 32},
    "coefficient": {"metric": "entropy"},
}  # fmt: skip


def made(**changes) -> Calibration:
    of_set = CalibratedDataset(
        classes="c", texts={"class_names": "n"}, labels=50, log_odds=(0.0, 0.5), chosen=(0.0, 0.5),
        gain=Gain(value=0.1, low=0.02, high=0.2),
    )  # fmt: skip
    none = dataclasses.replace(of_set, labels=0, log_odds=(0.0, 0.0), gain=None)
    found = Calibration(
        code="0.1", names=("p", "q"), identity=identity_of_calibration(IDENTITY), labels="l.csv",
        temperatures=(1.5, 0.7), kept=(False, False), tempered=Gain(value=0.0, low=0.0, high=0.0),
        level=0.8, forwards=10, exact_forwards=2, datasets={"d": of_set, "e": none},
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def test_it_is_read_as_it_was_written(tmp_path):
    path = str(tmp_path / "c.json")
    made().write(path)
    assert Calibration.read(path) == made()
    assert Calibration.read(path).digest == made().digest
    assert made(labels="other.csv").digest != made().digest
    assert json.loads((tmp_path / "c.json").read_text())["version"] == 1


def test_log_odds_of_nothing_are_none():
    np.testing.assert_array_equal(made().log_odds("d"), [0, 0.5])
    assert made().log_odds("e") is None


def test_the_temperatures_of_a_job_are_none_of_what_it_holds_for():
    other = IDENTITY | {
        "experts": [e | {"temperature": 9.0} for e in IDENTITY["experts"]],
        "coefficient": {"metric": "entropy", "calibration": "digest"},
    }
    made().check("c.json", other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experts", [{"sha256": "x"}, {"sha256": "z"}]), ("experts", [{"sha256": "x"}]),
        ("architecture", "b"), ("base", "b"), ("scale", 0.4), ("preprocessing", {"size": 64}),
    ],
)  # fmt: skip
def test_one_of_other_experts_is_refused(key, value):
    with pytest.raises(UserError, match=f"'c.json' does not hold for this job:\n  {key}: "):
        made().check("c.json", IDENTITY | {key: value})


def test_one_of_other_classes_texts_or_data_sets_is_refused():
    texts = {"d": {"class_names": "n"}}
    made().check_datasets("c.json", {"d": "c"}, texts)
    with pytest.raises(UserError, match="classes of 'd': others than those there"):
        made().check_datasets("c.json", {"d": "other"}, texts)
    with pytest.raises(UserError, match="class_names of 'd': n there, m here"):
        made().check_datasets("c.json", {"d": "c"}, {"d": {"class_names": "m"}})
    with pytest.raises(UserError, match=r"has no data set 'f'; it has d, e\. Calibrate the job"):
        made().check_datasets("c.json", {"f": "c"}, {"f": {}})


def test_a_damaged_file_and_a_newer_one_are_told_apart(tmp_path):
    path = tmp_path / "c.json"
    made().write(str(path))
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"version": 99}))
    with pytest.raises(UserError, match="has version 99"):
        Calibration.read(str(path))
    path.write_text(json.dumps(values | {"temperatures": "no"}))
    with pytest.raises(UserError, match="damaged: temperatures"):
        Calibration.read(str(path))
    with pytest.raises(UserError, match="calibration"):
        Calibration.read(str(tmp_path / "none.json"))
