"""What `dawin-ray advise` writes does what it says, and gets as much right as it forecasts."""

import numpy as np
import pytest

from dawin_ray.advice import advise, write_job
from dawin_ray.bench.job import Quiet
from dawin_ray.config import load_job, read_values
from dawin_ray.job import prepare, score
from dawin_ray.report import read_predictions
from tests.conftest import CLASSES, make_images, write_folder, write_tar

IMAGES = 600
PILOT = 200


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_the_runs_that_it_writes_are_within_its_intervals(small, tmp_path, engine):
    """Of accuracy; times are no test's: `jobs/studies/advice.py` holds them against runs."""
    images, draw = make_images(IMAGES), np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=IMAGES).tolist()
    half = IMAGES // 2
    write_tar(tmp_path / "tars" / "a.tar", images[:half], labels[:half])
    write_folder(tmp_path / "folder", images[half:], labels[half:])
    path = small.job_file(
        tmp_path / "job.yaml", tmp_path / "run",
        [{"name": n, "path": str(tmp_path / n)} for n in ("tars", "folder")],
        compute={"engine": engine},
    )  # fmt: skip
    values = read_values(path)
    advised = advise(values, lambda line: None, PILOT)
    assert advised.advice.pilot_samples == PILOT
    assert not (tmp_path / "run").exists()
    for mode in advised.advice.modes:
        out = tmp_path / f"{mode.mode}.yaml"
        write_job(advised, path, values, str(out), mode.mode)
        job = load_job(str(out), [f"run_dir={tmp_path / mode.mode}"])
        report = score(prepare(job), Quiet())
        assert set(report.passes) == (
            {"experts", "merged"} if mode.mode == "clustered" else {"at_once"}
        )
        rows = read_predictions(job.run_dir)
        right = (rows.prediction == rows.label).groupby(rows.dataset).mean()
        assert mode.accuracy.low <= right.mean() <= mode.accuracy.high
        for name, interval in mode.datasets.items():
            assert interval.low - 0.02 <= right[name] <= interval.high + 0.02
        if mode.mode == "plain":
            place = advised.advice.experts.index(mode.kind)
            assert (rows.prediction == [e[place] for e in rows.expert_prediction]).all()
        if mode.mode == "static" and mode.kind == "even_interpolation":
            assert (rows.cluster == 0).all()
