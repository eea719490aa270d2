"""Models that are merged once, of task vectors over a base: the reference's weights and logits.

Shapes: N samples, C classes.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import make_job
from dawin_ray.data import DecodeImages
from dawin_ray.job.prepare import prepare
from dawin_ray.method import Trim, interpolate, merge, ties
from dawin_ray.passes import ScoreExperts
from tests.parity.golden import LOGITS, Golden

# By our names the reference's. Its even interpolation of task vectors is task arithmetic.
METHODS = {
    "averaging": "weight_averaging", "task_arithmetic_0.3": "task_arithmetic", "ties": "ties",
    "base": "base", "own_expert": "individuals",
}  # fmt: skip

BASELINES = {
    "even_interpolation": False, "output_ensembles": False, "own_expert": True, "averaging": True,
    "task_arithmetic": [0.3], "ties": {"keep": 0.2, "scale": 0.3}, "base": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def states(given) -> tuple[dict, list[dict]]:
    """Base and experts, with what is left of the text tower."""
    return load_file(given.base), [load_file(given.expert(task)) for task in given.tasks]


def logits_of(method: str, task: str, given: Golden) -> np.ndarray:
    """The reference's, of one of `METHODS` or of its own names [N, C]."""
    name = METHODS.get(method, method)
    return given.arrays[f"base|{task}"] if name == "base" else given.array(name, task)


def assert_merged(merged: dict, theirs: dict) -> None:
    """Every tensor has the reference's norm and first values."""
    assert merged.keys() == theirs.keys()
    for name, figures in theirs.items():
        tensor = merged[name].double()
        assert tensor.norm().item() == pytest.approx(figures["norm"], rel=1e-6), name
        first = tensor.flatten()[: len(figures["first"])].tolist()
        np.testing.assert_allclose(first, figures["first"], rtol=0, atol=1e-6, err_msg=name)


def test_averages_and_sums_of_task_vectors_have_the_references_tensors(given, states):
    base, experts = states
    figures, even = given.figures[f"M{given.count}"], [1 / given.count] * given.count
    assert_merged(interpolate(experts, even), figures["weight_averaging"]["merged"])
    summed = merge(experts, even, base=base, scale=0.3)
    assert_merged(summed, figures["task_arithmetic"]["merged"])


@pytest.mark.parametrize("key", ["ties", "ties_visual_only"])
def test_ties_keeps_and_merges_what_the_reference_does(given, states, key):
    base, experts = states
    names = [name for name in base if key == "ties" or name.startswith("model.visual.")]
    counted = {name: base[name] for name in names}
    figures = given.figures[f"M{given.count}"][key]
    trim = Trim.of(counted, experts, keep=figures["K"] / 100)
    assert trim.values == figures["trim"]["values"]
    assert list(trim.kept) == figures["trim"]["kept"]
    assert list(trim.thresholds) == figures["trim"]["smallest_kept"]
    merged = base | ties(counted, experts, trim, figures["scale"])
    assert_merged(merged, figures["merged"])
    changed = sum(int((merged[name] != base[name]).sum()) for name in names)
    assert changed <= figures["trim"]["merged_nonzero"]  # a small one may leave a sum as it is
    assert changed == pytest.approx(figures["trim"]["merged_nonzero"], rel=1e-3)


@pytest.mark.parametrize("over", ["checkpoint", "tower"])
def test_a_jobs_models_have_the_references_logits(given, over):
    baselines = BASELINES | {"ties": BASELINES["ties"] | {"over": over}}
    job = make_job(given.job(given.folder / "never", baselines=baselines))
    prepared = prepare(job)
    stage = ScoreExperts(prepared.spec)
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, prepared.spec.classes)
    expected = {"averaging", "task_arithmetic_0.3", "ties", "base"}
    assert stage.static.keys() == expected
    for task in given.tasks:
        [chunk] = [chunk for shard in prepared.shards[task] for chunk in decode(shard)]
        order = [chunk.sample_ids.index(name) for name in given.images(task)]
        [pixels] = stage.feed(chunk.images, [slice(0, len(order))])
        for method, model in stage.static.items():
            key = "ties_visual_only" if (method, over) == ("ties", "tower") else method
            with torch.inference_mode():
                ours_NC = model(pixels, prepared.spec.tasks[task].head)[order].numpy()
            theirs_NC = logits_of(key, task, given)
            np.testing.assert_allclose(ours_NC, theirs_NC, rtol=0, atol=LOGITS, err_msg=key)


@pytest.fixture(scope="module")
def run_dir(given):
    return given.run(given.folder / "baselines", mixture={"clusters": 1}, baselines=BASELINES)


def test_a_run_has_a_column_of_each_and_the_references_predictions(given, run_dir):
    job = make_job(given.job(run_dir, mixture={"clusters": 1}, baselines=BASELINES))
    names = [method.name for method in job.methods]
    assert names == [*given.tasks, *("own_expert", "averaging", "task_arithmetic_0.3", "ties",
                                     "base")]  # fmt: skip
    for task in given.tasks:
        rows = pd.read_parquet(run_dir / "experts" / f"dataset={task}").set_index("sample_id")
        rows = rows.loc[given.images(task)]
        labels = given.figures["tasks"][task]["labels"]
        predictions_NQ, losses_NQ = (
            np.stack(rows[f"baseline_{column}"]) for column in ("prediction", "nll")
        )
        for method in METHODS:
            logits_NC = torch.from_numpy(logits_of(method, task, given))
            column = names.index(method)
            ours = predictions_NQ[:, column]
            assert ours.tolist() == logits_NC.argmax(dim=1).tolist(), (method, task)
            losses_N = torch.nn.functional.cross_entropy(
                logits_NC, torch.tensor(labels), reduction="none"
            )
            # log loss is ln of a float32 probability, whose last bits a large loss has not
            np.testing.assert_allclose(losses_NQ[:, column], losses_N, rtol=1e-4, atol=1e-4)


def test_a_plan_tells_of_how_many_values_ties_keeps_its_share(given):
    job_file = given.folder / "plan.yaml"
    job_file.write_text(make_job(given.job(given.folder / "p", baselines=BASELINES)).to_yaml())
    plan = CliRunner().invoke(app, ["plan", str(job_file)])
    assert plan.exit_code == 0, plan.output
    text = " ".join(plan.output.split())
    # 18,190 of each task's values, all of them in the tower
    assert "ties keeps 20 % of 90,945 values, 19,105 of which are not the tower's: " in text
    assert "25.3 to 25.3 % of its 71,840" in text
    assert f"({given.count} experts + 4 static models)" in text
    assert "own_expert 0, averaging 1, task_arithmetic_0.3 1, ties 1, base 1" in text
