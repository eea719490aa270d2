"""Experts of several tasks over a base, each task with its head: the reference's figures by a job.

Shapes: N samples, M experts, C classes, T classes that a row keeps.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.parity.golden import LOGITS


@pytest.fixture(scope="module")
def exact(given):
    return given.run(given.folder / "exact", mixture={"clusters": "exact"})


def assert_logits(rows, theirs_NC: np.ndarray, *, atol: float, share: float = 1) -> None:
    """Predictions and the kept probabilities are those of the logits."""
    same = rows["prediction"].to_numpy() == theirs_NC.argmax(axis=1)
    assert same.mean() >= share
    ours_NT = np.log(np.stack(rows["top_probabilities"]).astype(np.float64))
    theirs_NT = np.take_along_axis(theirs_NC, np.stack(rows["top_classes"]), axis=1)
    # probabilities know logits up to a constant: compare the differences to the largest
    ours_NT, theirs_NT = (x - x[:, :1] for x in (ours_NT, theirs_NT.astype(np.float64)))
    # float32 of a logarithm: what is left of a probability of 1e-7 has few digits
    np.testing.assert_allclose(ours_NT[same], theirs_NT[same], atol=atol, rtol=1e-6)


def test_entropies_and_coefficients_are_through_the_tasks_head(given, exact):
    for task in given.tasks:
        rows = given.predictions(exact, task)
        entropy_NM, coefficient_NM = (
            np.stack(rows[name]) for name in ("expert_entropy", "coefficient")
        )
        np.testing.assert_allclose(entropy_NM, given.array("entropy", task), atol=1e-5, rtol=0)
        np.testing.assert_allclose(
            coefficient_NM, given.array("coefficient", task), atol=1e-5, rtol=0
        )
        theirs = given.array("expert_prediction", task)
        assert np.stack(rows["expert_prediction"]).tolist() == theirs.tolist()


def test_each_samples_own_weights_give_its_logits(given, exact):
    for task in given.tasks:
        assert_logits(given.predictions(exact, task), given.array("dawin", task), atol=LOGITS)


def test_one_cluster_a_task_is_the_references_main_program(given):
    run = given.run(given.folder / "task", mixture={"clusters": 1, "estimator": "moments"})
    for task in given.tasks:
        theirs = given.array("dataset_level", task)
        assert_logits(given.predictions(run, task), theirs, atol=5e-4, share=0.99)


@pytest.mark.parametrize("clusters", [1, 3])
def test_clusters_of_all_tasks_together_predict_with_each_tasks_head(given, clusters):
    run = given.run(
        given.folder / f"joint_{clusters}",
        fit="joint",
        mixture={"clusters": clusters, "estimator": "maximum_likelihood", "tolerance": 1e-8},
    )
    for task in given.tasks:
        theirs = given.array(f"joint_K{clusters}", task)
        assert_logits(given.predictions(run, task), theirs, atol=5e-3, share=0.99)


def test_merging_leaves_the_heads_alone(given, exact):
    """A head that is scaled makes the same scaled logits of every merge: it takes no part."""
    task = given.tasks[1]
    other = given.folder / "twice.safetensors"
    save_file({name: 2 * x for name, x in load_file(given.head(task)).items()}, other)
    datasets = [d for d in given.job(given.folder)["datasets"] if d["name"] == task]
    datasets[0]["head"] = {"checkpoint": str(other)}
    experts = [{"name": t, "checkpoint": given.expert(t), "temperature": 2.0} for t in given.tasks]
    run = given.run(
        given.folder / "twice", datasets=datasets, experts=experts, mixture={"clusters": "exact"}
    )
    rows = given.predictions(run, task)
    # temperature 2 undoes the head's factor in entropies, so the coefficients are the same
    np.testing.assert_allclose(
        np.stack(rows["coefficient"]), given.array("coefficient", task), atol=1e-5, rtol=0
    )
    assert_logits(rows, 2 * given.array("dawin", task), atol=2 * LOGITS)
