"""A saved fit: the same predictions in one pass, and refused where it does not hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import prepare
from tests.conftest import CLASSES, make_images, write_folder, write_tar

IMAGES = 60
SECTIONS = {
    "clustered": {},
    "offset": {"coefficient": {"offset_adjustment": True}},
    "exact": {"coefficient": {"offset_adjustment": True}, "mixture": {"clusters": "exact"}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("fit")
    images, labels = make_images(IMAGES), [i % CLASSES for i in range(IMAGES)]
    write_folder(root / "folder", images, sorted(labels))
    write_tar(root / "tars" / "a.tar", images, None)
    return [{"name": name, "path": str(root / name)} for name in ("folder", "tars")]


def run(small, folder: Path, data: list[dict], **sections) -> Path:
    folder.mkdir(exist_ok=True)
    job = small.job_file(folder / "job.yaml", folder / "run", data, **sections)
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture(scope="module")
def fitted(small, data, tmp_path_factory) -> dict[str, Path]:
    """Two-pass runs that saved their fits."""
    root = tmp_path_factory.mktemp("fitted")
    return {name: run(small, root / name, data, **s) for name, s in SECTIONS.items()}


@pytest.mark.parametrize("name", SECTIONS)
def test_applied_to_its_own_data_it_gives_the_same_in_one_pass(small, data, fitted, tmp_path, name):
    for dataset in ("folder", "tars"):
        source = {"from": str(fitted[name]), "dataset": dataset}
        chosen = [d for d in data if d["name"] == dataset]
        applied = run(small, tmp_path / dataset, chosen, fit=source, **SECTIONS[name])
        one, two = (
            pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")
            for run_dir in (applied, fitted[name])
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        reports = [
            json.loads((run_dir / "report.json").read_text()) for run_dir in (applied, fitted[name])
        ]
        assert list(reports[0]["passes"]) == ["at_once"]
        assert len(reports[1]["passes"]) == 2
        assert not (applied / "cache").exists()
        one_fit, two_fit = (
            json.loads((run_dir / "fit.json").read_text())["datasets"][dataset]
            for run_dir in (applied, fitted[name])
        )
        assert one_fit == two_fit  # and can be applied in turn
        rates = [
            sum(p["rows"] for p in r["passes"].values()) / len(r["passes"])
            / sum(p["model_seconds"] for p in r["passes"].values())
            for r in reports
        ]  # fmt: skip
        print(f"{name}, {dataset}: {rates[0]:.0f} images/s in one pass, {rates[1]:.0f} in two")


def test_figures_of_the_saved_fit_are_those_of_the_predictions(fitted):
    run_dir = fitted["offset"]
    document = json.loads((run_dir / "fit.json").read_text())
    assert (document["version"], document["names"]) == (3, ["expert_0", "expert_1"])
    mixtures = json.loads((run_dir / "mixture.json").read_text())["fits"]
    for dataset, entry in document["datasets"].items():
        rows = pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")
        for column, key in (("expert_entropy", "entropy"), ("coefficient", "coefficient")):
            values = np.stack(rows[column]).astype(np.float64)
            for i, name in enumerate(document["names"]):
                found = entry[key][name]
                assert found["n"] == len(rows)
                assert found["mean"] == pytest.approx(values[:, i].mean(), abs=1e-12)
                assert found["std"] == pytest.approx(values[:, i].std(ddof=1), abs=1e-12)
                assert found["quantiles"]["0.5"] == pytest.approx(np.median(values[:, i]))
                assert sum(found["histogram"]) == len(rows)
                percentiles = np.percentile(values[:, i], range(101))
                np.testing.assert_allclose(list(found["quantiles"].values()), percentiles)
                assert found["at_most"][0] >= 1
                assert found["at_most"][-1] == len(rows)
        predictions = np.stack(rows["expert_prediction"])
        assert entry["disagreements"] == (predictions[:, 0] != predictions[:, 1]).sum()
        counts = rows["cluster"].value_counts()
        assert entry["clusters"] == [counts.get(k, 0) for k in range(len(entry["clusters"]))]
        assert entry["fit"]["offset"] == mixtures[dataset]["offset"]
        assert entry["fit"]["mixture"] == mixtures[dataset]["mixture"]
    exact = json.loads((fitted["exact"] / "fit.json").read_text())["datasets"]
    assert [entry["clusters"] for entry in exact.values()] == [None, None]


def refused(small, data, fit_json: Path, tmp_path, **sections) -> str:
    source = {"from": str(fit_json), "dataset": sections.pop("dataset", "folder")}
    job = make_job(small.job(tmp_path / "run", data[:1], fit=source, **sections))
    with pytest.raises(UserError) as caught:
        prepare(job)
    return str(caught.value)


def test_where_it_does_not_hold_it_is_refused(small, data, fitted, tmp_path):
    path = fitted["clustered"] / "fit.json"
    experts = [{"name": f"e{i}", "checkpoint": small.checkpoints[i]} for i in (0, 2)]
    message = refused(small, data, path, tmp_path, experts=experts)
    assert "does not hold for this job" in message
    assert "experts: " in message
    message = refused(small, data, path, tmp_path, coefficient={"metric": "confidence"})
    assert "coefficient: " in message
    subset = tmp_path / "classes.txt"
    subset.write_text("\n".join(map(str, range(CLASSES))))
    chosen = [data[0] | {"classes": str(subset)}]
    assert "classes of 'folder'" in refused(small, chosen, path, tmp_path)
    message = refused(small, data, path, tmp_path, dataset="else")
    assert "no data set 'else'; it has folder, tars" in message
    exact = fitted["exact"] / "fit.json"
    message = refused(small, data, exact, tmp_path, coefficient={"offset_adjustment": True})
    assert "clusters: exact" in message


def test_a_damaged_missing_or_older_file_is_refused(small, data, fitted, tmp_path):
    path = tmp_path / "fit.json"
    text = (fitted["clustered"] / "fit.json").read_text()
    assert "does not exist" in refused(small, data, path, tmp_path)
    for damaged in (text[: len(text) // 2], "", "[]", '{"version": 3}'):
        path.write_text(damaged)
        assert "is damaged" in refused(small, data, path, tmp_path)
    document = json.loads(text)
    path.write_text(json.dumps(document | {"version": 0}))
    message = refused(small, data, path, tmp_path)
    assert "has version 0, and this program reads version 3" in message
    del document["datasets"]["folder"]["fit"]["mixture"]
    path.write_text(json.dumps(document))
    assert "is damaged" in refused(small, data, path, tmp_path)


def test_a_changed_fit_is_another_job(small, data, fitted, tmp_path):
    path = tmp_path / "fit.json"
    shutil.copy(fitted["clustered"] / "fit.json", path)
    source = {"from": str(path), "dataset": "folder"}
    run(small, tmp_path / "job", data[:1], fit=source)
    shutil.copy(fitted["offset"] / "fit.json", path)
    document = json.loads(path.read_text())
    document["identity"]["coefficient"]["offset_adjustment"] = False
    path.write_text(json.dumps(document))
    job = str(tmp_path / "job" / "job.yaml")
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 2
    assert "saved_fit" in result.output


def test_wrong_keys_of_a_fit_are_told(small, data, tmp_path):
    with pytest.raises(UserError, match=r"fit\.dataset: missing"):
        make_job(small.job(tmp_path / "run", data, fit={"from": "x"}))
    with pytest.raises(UserError, match=r"fit\.datset: unknown key. Valid here: .*dataset"):
        make_job(small.job(tmp_path / "run", data, fit={"from": "x", "dataset": "y", "datset": 1}))


def test_a_reference_in_the_job_and_a_saved_one_are_the_same(small, data, fitted, tmp_path):
    """Coefficients by hand from the entropies; from the job's data set, and from fit.json#NAME."""
    dimmed = [path for path in make_images(IMAGES, seed=9)]
    write_tar(tmp_path / "other" / "a.tar", dimmed, None)
    sets = [data[0], {"name": "other", "path": str(tmp_path / "other")}]
    inside = run(
        small, tmp_path / "inside", sets, coefficient={"reference": "folder", "strength": 0.7}
    )
    saved = f"{fitted['clustered'] / 'fit.json'}#folder"
    outside = run(
        small, tmp_path / "outside", sets, coefficient={"reference": saved, "strength": 0.7}
    )
    for name in ("folder", "other"):
        a, b = (pd.read_parquet(r / "predictions" / f"dataset={name}") for r in (inside, outside))
        # a median of JSON and one of float32 entropies are the same number
        pd.testing.assert_frame_equal(a, b, check_exact=False, atol=1e-6)
        h = np.stack(a["expert_entropy"]).astype(np.float64)
        reference = np.stack(
            pd.read_parquet(inside / "predictions" / "dataset=folder")["expert_entropy"]
        ).astype(np.float64)
        growth = np.log(np.median(h, axis=0) / np.median(reference, axis=0))
        scores = np.exp(-h - 0.7 * growth)
        expected = scores / scores.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.stack(a["coefficient"]), expected, atol=1e-6)
    assert not np.allclose(growth, 0, atol=1e-3)
    for run_dir in (inside, outside):  # random experts are certain of nothing
        mixture = json.loads((run_dir / "mixture.json").read_text())
        assert not any("looks like" in w for f in mixture["fits"].values() for w in f["warnings"])


def test_a_reference_of_which_an_expert_is_certain_is_told(small, data, fitted, tmp_path, caplog):
    document = json.loads((fitted["clustered"] / "fit.json").read_text())
    document["datasets"]["folder"]["entropy"]["expert_1"]["quantiles"]["0.99"] = 0.03
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(document))
    run_dir = run(small, tmp_path / "run", data[:1], coefficient={"reference": f"{path}#folder"})
    expected = "the reference looks like training data of expert_1"
    assert expected in caplog.text
    (fits,) = json.loads((run_dir / "mixture.json").read_text())["fits"].values()
    assert fits["warnings"][-1].startswith(expected)
    assert "0.03 nats" in fits["warnings"][-1]


def test_wrong_references_are_told(small, data, fitted, tmp_path):
    def job(**coefficient):
        return make_job(small.job(tmp_path / "run", data, coefficient=coefficient))

    with pytest.raises(UserError, match=r"coefficient.reference: expected one of folder, tars"):
        job(reference="else")
    with pytest.raises(UserError, match="without offset_adjustment"):
        job(reference="folder", offset_adjustment=True)
    with pytest.raises(UserError, match="without offset_adjustment"):
        job(reference="folder", metric="margin")
    with pytest.raises(UserError, match="no data set 'else'"):
        prepare(job(reference=f"{fitted['clustered'] / 'fit.json'}#else"))
