"""`dawin-ray run` on the reference's checkpoints and images gives the reference's figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dawin_ray.cli import app
from tests.parity.golden import unpack

GOLDEN = Path(__file__).parent / "end_to_end"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
FOLDERS = {"ImageNet": "data/imagenet/val", "ImageNetR": "data/imagenet-r"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The unpacked images; both runs write here."""
    folder = tmp_path_factory.mktemp("golden")
    unpack(GOLDEN / "images.tar", folder)
    return folder


@pytest.fixture(scope="module")
def run_dir(folder) -> Path:
    """The clustered run."""
    return run(folder, "run", 3)


@pytest.fixture(scope="module")
def exact_dir(folder) -> Path:
    """The run with each sample's own weights."""
    return run(folder, "exact", "exact")


def run(folder: Path, name: str, clusters: int | str) -> Path:
    temperatures = EXPECTED["ImageNet"]["temperatures"]
    job = {
        "run_dir": str(folder / name),
        "model": {"architecture": str(GOLDEN / "model_config.json")},
        "experts": [
            {"name": name, "checkpoint": str(GOLDEN / f"{name}.pt"), "temperature": temperature}
            for name, temperature in zip(("zero_shot", "fine_tuned"), temperatures, strict=True)
        ],
        "datasets": [
            {"name": "ImageNet", "path": str(folder / FOLDERS["ImageNet"])},
            {"name": "ImageNetR", "path": str(folder / FOLDERS["ImageNetR"]),
             "classes": "imagenet-r"},
        ],
        "coefficient": {"metric": "entropy", "offset_adjustment": True},
        "mixture": {"clusters": clusters},
        "compute": {"engine": "local"},
    }  # fmt: skip
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    result = CliRunner().invoke(app, ["run", str(folder / "job.yaml")])
    assert result.exit_code == 0, result.output
    return folder / name


@pytest.mark.parametrize("dataset", EXPECTED)
def test_predictions_equal_the_reference(run_dir, dataset):
    expected = EXPECTED[dataset]
    ours = pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")
    ours = ours.set_index("sample_id").loc[expected["image"]]
    assert len(ours) == 80

    assert (ours["label"] == expected["label"]).all()
    entropies = np.stack(ours["expert_entropy"])
    np.testing.assert_allclose(entropies[:, 0], expected["entropy_zero_shot"], atol=1e-4)
    np.testing.assert_allclose(entropies[:, 1], expected["entropy_fine_tuned"], atol=1e-4)
    coefficient = np.stack(ours["coefficient"])
    np.testing.assert_allclose(coefficient[:, 1], expected["coefficient"], atol=1e-4)
    np.testing.assert_allclose(coefficient.sum(axis=1), 1, atol=1e-6)
    experts = np.stack(ours["expert_prediction"])
    assert (experts[:, 0] == expected["zero_shot_prediction"]).all()
    assert (experts[:, 1] == expected["fine_tuned_prediction"]).all()

    same = ours["prediction"].to_numpy() == expected["clustered_prediction"]
    assert same.mean() >= 0.99
    # the order of components is arbitrary: ours are sorted by their mean
    order = np.argsort(expected["beta_mean"])
    ranks = np.argsort(order)[expected["cluster"]]
    assert (ours["cluster"].to_numpy() == ranks).mean() >= 0.99

    # probabilities know logits up to a constant: compare the differences to the largest. Fitted
    # means may differ from the reference's by 5e-3 (EM ends within a tolerance), which moves
    # logits of scale 10 by some hundredths.
    logits = np.log(np.stack(ours["top_probabilities"]))
    theirs = np.array(expected["clustered_top5_logits"])
    np.testing.assert_allclose(
        (logits - logits[:, :1])[same], (theirs - theirs[:, :1])[same], atol=0.05
    )


@pytest.mark.parametrize("dataset", EXPECTED)
def test_mixture_equals_the_reference(run_dir, dataset):
    mixture = json.loads((run_dir / "mixture.json").read_text())["fits"][dataset]["mixture"]
    concentrations = np.array(mixture["concentrations"])
    means = concentrations[:, 1] / concentrations.sum(axis=1)
    order = np.argsort(EXPECTED[dataset]["beta_mean"])
    theirs = np.array(EXPECTED[dataset]["beta_mean"])[order]
    np.testing.assert_allclose(means, theirs, atol=5e-3)
    weights = np.array(EXPECTED[dataset]["beta_weight"])[order]
    np.testing.assert_allclose(mixture["weights"], weights, atol=1e-2)


@pytest.mark.parametrize("dataset", EXPECTED)
def test_accuracies_equal_the_reference(run_dir, dataset):
    report = json.loads((run_dir / "report.json").read_text())
    row = next(row for row in report["datasets"] if row["dataset"] == dataset)
    expected = EXPECTED[dataset]["accuracy"]
    assert row["accuracy"]["zero_shot"] == pytest.approx(expected["zero_shot"], abs=1e-6)
    assert row["accuracy"]["fine_tuned"] == pytest.approx(expected["fine_tuned"], abs=1e-6)
    assert row["accuracy"]["dawin"] == pytest.approx(expected["clustered"], abs=1e-6)


@pytest.mark.parametrize("dataset", EXPECTED)
def test_the_exact_mode_equals_merging_for_each_sample(exact_dir, dataset):
    expected = EXPECTED[dataset]
    ours = pd.read_parquet(exact_dir / "predictions" / f"dataset={dataset}")
    ours = ours.set_index("sample_id").loc[expected["image"]]
    assert len(ours) == 80
    assert ours["cluster"].isna().all()

    coefficient = np.stack(ours["coefficient"])
    np.testing.assert_allclose(coefficient[:, 1], expected["coefficient"], atol=1e-4)
    same = ours["prediction"].to_numpy() == expected["samplewise_prediction"]
    assert same.mean() >= 0.99
    # probabilities know logits up to a constant: compare the differences to the largest
    logits = np.log(np.stack(ours["top_probabilities"]))
    theirs = np.array(expected["samplewise_top5_logits"])
    np.testing.assert_allclose(
        (logits - logits[:, :1])[same], (theirs - theirs[:, :1])[same], atol=1e-2
    )
