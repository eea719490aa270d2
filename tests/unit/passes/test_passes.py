"""The stages: chunks depend on shard and range alone, and both passes equal a direct computation.

Shapes: N samples, M experts, K clusters, C classes.
"""

import copy
import dataclasses
import io
import itertools
import math
import tarfile

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import stats

from dawin_ray import tables
from dawin_ray.data.chunks import Chunk
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.errors import UserError
from dawin_ray.method import baselines as comparisons
from dawin_ray.method import outcomes
from dawin_ray.method.baselines import BaselinesConfig
from dawin_ray.method.coefficients import CoefficientConfig, Offset
from dawin_ray.method.fit import Fit
from dawin_ray.method.mixture import Mixture
from dawin_ray.method.ties import TiesConfig, Trim
from dawin_ray.models.heads import head_of_file
from dawin_ray.models.spec import CHECKPOINT_HEAD, ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.predictions import Predict
from dawin_ray.passes.spec import ScoringSpec, Task
from tests.conftest import (
    CLASSES,
    MODEL_CONFIG,
    expert_state,
    make_images,
    write_folder,
    write_parquet,
    write_tar,
)
from tests.unit.method.test_ties import by_the_paper

# A float32 forward against one in float64: logits are some 30 at most and the tower a few layers
# deep, so that rounding (6e-8 relative) grows to about 1e-6 relative on them. What is compared,
# entropies and probabilities, moves at most about as much as a logit does.
TOLERANCE = 1e-5
TEMPERATURES = (0.9, 1.3)
COUNT = 24
IMAGES = make_images(COUNT)
LABELS = [i % CLASSES for i in range(COUNT)]
ALL_CLASSES = {"set": DatasetClasses(count=CLASSES), "other": DatasetClasses(count=CLASSES)}


def shards_of(path, **settings) -> list[Shard]:
    config = DatasetConfig(name="set", path=str(path), **settings)
    listing = list_files(config)
    return make_shards(config, listing, {name: i for i, name in enumerate(listing.folders)})


NO_EVEN = BaselinesConfig(even_interpolation=False)


def tasks_of(classes):
    return {name: Task(CHECKPOINT_HEAD, of_set) for name, of_set in classes.items()}


def make_spec(small, **changes) -> ScoringSpec:
    experts = tuple(
        ExpertConfig(name=f"e{i}", checkpoint=small.checkpoints[i], temperature=t)
        for i, t in enumerate(TEMPERATURES)
    )
    model = ModelSpec(
        config=ModelConfig(architecture=small.config), experts=experts, base=None,
        heads=(HeadSpec(),),
    )  # fmt: skip
    settings = {
        "model": model,
        "tasks": tasks_of(ALL_CLASSES),
        "coefficient": CoefficientConfig(),
        "batch_size": 7,
    }
    return ScoringSpec(**settings | changes)


def make_fit(*means: float, offset: Offset | None = None) -> Fit:
    """A fit whose clusters have these means of lambda, and precision 40."""
    mixture = Mixture(
        concentrations=np.array([[40 * (1 - mean), 40 * mean] for mean in means]),
        weights=np.full(len(means), 1 / len(means)),
        mean_log_likelihood=0.0,
        converged=True,
        iterations=1,
        samples=float(COUNT),
    )
    return Fit(samples=COUNT, offset=offset, mixture=mixture, source="samples")


@pytest.fixture(scope="module")
def score(small) -> ScoreExperts:
    return ScoreExperts(make_spec(small))


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    return {"set": make_fit(0.35, 0.5, 0.65), "other": make_fit(0.45, 0.55)}


@pytest.fixture(scope="module")
def predict(small, fits) -> Predict:
    return Predict(make_spec(small), fits)


@pytest.fixture(scope="module")
def chunks(tmp_path_factory, score) -> list[Chunk]:
    """Three chunks of one tar: 10, 10 and 4 samples."""
    path = write_tar(tmp_path_factory.mktemp("stages") / "s.tar", IMAGES, LABELS)
    [shard] = shards_of(path)
    return list(DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard))


def flat(lists) -> list:
    return list(itertools.chain.from_iterable(lists))


def values(table, name: str) -> np.ndarray:
    """A column as an array [N] or [N, width]."""
    return np.array(table[name].to_pylist())


def assert_same_tables(first, second):
    """Equal in everything that is discrete, and to rounding in everything that is not."""
    assert first.schema == second.schema
    for field in first.schema:
        a, b = first[field.name].to_pylist(), second[field.name].to_pylist()
        if "float" in str(field.type) and None not in a:
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE, err_msg=field.name)
        else:
            assert a == b, field.name


def exact_logits(chunk: Chunk, state: dict[str, torch.Tensor]) -> np.ndarray:
    """Logits [N, C] of open_clip's own model with these weights, in float64."""
    model = open_clip.CLIP(**MODEL_CONFIG).double().eval()
    tower = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    model.visual.load_state_dict(tower)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    pixels = (torch.tensor(chunk.images).permute(0, 3, 1, 2).double() / 255 - mean) / std
    with torch.inference_mode():
        features = model.encode_image(pixels, normalize=True)
    weight, bias = (state[f"classification_head.{part}"].double() for part in ("weight", "bias"))
    return (features @ weight.T + bias).numpy()


def mixed(*coefficients: float) -> dict[str, torch.Tensor]:
    """The weights of the small experts, interpolated in float64."""
    states = [expert_state(seed) for seed in range(len(coefficients))]
    return {
        name: sum(c * state[name].double() for c, state in zip(coefficients, states, strict=True))
        for name in states[0]
    }


def softmax(logits_NC: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    e = np.exp((logits_NC - logits_NC.max(axis=1, keepdims=True)) / temperature)
    return e / e.sum(axis=1, keepdims=True)


def entropy(p_NC: np.ndarray) -> np.ndarray:
    return -(p_NC * np.log(p_NC)).sum(axis=1)


# Decoding


@pytest.mark.parametrize("write", [write_folder, write_tar, write_parquet])
@pytest.mark.parametrize("size", [1, 5, 24, 1000])
def test_chunks_of_any_size_hold_the_same_samples_in_the_same_order(tmp_path, score, write, size):
    name = {write_folder: "", write_tar: "s.tar", write_parquet: "p.parquet"}[write]
    write(tmp_path / "set" / name, IMAGES, LABELS)
    [shard] = shards_of(tmp_path / "set")
    [whole] = DecodeImages(score.preprocessing, COUNT, ALL_CLASSES)(shard)
    assert len(whole.sample_ids) == COUNT
    parts = list(DecodeImages(score.preprocessing, size, ALL_CLASSES)(shard))
    assert [part.name for part in parts] == [
        f"{shard.key}-{start:09d}" for start in range(0, COUNT, size)
    ]
    assert [len(part.images) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert flat(part.sample_ids for part in parts) == whole.sample_ids
    assert flat(part.labels for part in parts) == whole.labels
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    assert sum(part.bytes for part in parts) == whole.bytes
    assert whole.bytes <= shard.bytes


def test_crops_are_those_of_the_preprocessing(chunks, score):
    crop = score.preprocessing.crop
    expected = [crop(Image.open(io.BytesIO(image))) for image in IMAGES]
    np.testing.assert_array_equal(np.concatenate([c.images for c in chunks]), expected)
    assert flat(chunk.labels for chunk in chunks) == LABELS


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 2), (0, 1, 2, 3, 4), ()])
def test_finished_chunks_are_skipped_and_the_others_stay_as_they_are(tmp_path, score, missing):
    path = write_tar(tmp_path / "s.tar", IMAGES, LABELS)
    [shard] = shards_of(path)
    everything = list(DecodeImages(score.preprocessing, 5, ALL_CLASSES)(shard))
    finished = {chunk.name for i, chunk in enumerate(everything) if i not in missing}
    again = list(DecodeImages(score.preprocessing, 5, ALL_CLASSES)(shard, finished))
    assert [chunk.name for chunk in again] == [everything[i].name for i in missing]
    for i, chunk in zip(missing, again, strict=True):
        assert chunk.sample_ids == everything[i].sample_ids
        np.testing.assert_array_equal(chunk.images, everything[i].images)


def test_the_end_of_a_broken_shard_is_reported_after_a_resume_too(tmp_path, score):
    path = write_tar(tmp_path / "s.tar", IMAGES[:3], LABELS[:3])
    with tarfile.open(path) as tar:
        end = tar.getmember("0002.cls").offset_data  # two samples are whole
    path.write_bytes(path.read_bytes()[:end])
    [shard] = shards_of(path)
    first, last = DecodeImages(score.preprocessing, 2, ALL_CLASSES)(shard)
    assert len(first.sample_ids) == 2
    assert len(last.rejects) == 1
    [again] = DecodeImages(score.preprocessing, 2, ALL_CLASSES)(shard, {first.name})
    assert (again.name, again.rejects) == (last.name, last.rejects)


def test_what_cannot_be_decoded_is_a_reject_with_a_reason_and_the_rest_goes_on(tmp_path, score):
    truncated = IMAGES[0][: len(IMAGES[0]) // 2]
    broken = [IMAGES[0], b"no image", b"", truncated, IMAGES[1]]
    [shard] = shards_of(write_parquet(tmp_path / "p.parquet", broken, [0, 1, 2, 3, 4]))
    [chunk], [twice] = (DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard) for _ in "12")
    assert chunk.sample_ids == ["p.parquet/0", "p.parquet/4"]
    assert chunk.labels == [0, 4]
    assert len(chunk.images) == 2
    assert [reject.sample_id for reject in chunk.rejects] == [f"p.parquet/{i}" for i in (1, 2, 3)]
    assert all("cannot be decoded" in reject.reason for reject in chunk.rejects)
    assert "truncated" in chunk.rejects[2][1].lower()
    assert chunk.rejects == twice.rejects
    assert "0x" not in str(chunk.rejects)


def test_an_image_of_too_many_pixels_is_a_reject(tmp_path, score, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    [shard] = shards_of(write_parquet(tmp_path / "p.parquet", IMAGES[:1], None))
    [chunk] = DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard)
    assert "DecompressionBombError" in chunk.rejects[0][1]


def test_a_sample_that_cannot_be_read_is_a_reject_with_the_readers_reason(tmp_path, score):
    root = write_folder(tmp_path / "set", IMAGES[:3], [0, 0, 0])
    [shard] = shards_of(root)
    (root / "class_0" / "0001.png").unlink()
    [chunk] = DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard)
    assert chunk.sample_ids == ["class_0/0000.jpg", "class_0/0002.jpg"]
    [reject] = chunk.rejects
    assert reject.sample_id == "class_0/0001.png"
    assert "cannot be read" in reject.reason


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_outside_the_classes_is_a_reject(tmp_path, score, label):
    [shard] = shards_of(write_tar(tmp_path / "s.tar", IMAGES[:3], [0, label, 1]))
    [chunk] = DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard)
    assert chunk.sample_ids == ["s.tar/0000", "s.tar/0002"]
    [reject] = chunk.rejects
    assert reject.sample_id == "s.tar/0001"
    assert reject.reason == f"label {label} is outside the classes 0..5"


def test_a_shard_without_samples_is_told(tmp_path, score):
    [shard] = shards_of(write_tar(tmp_path / "s.tar", [], None))
    [chunk] = DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard)
    assert not chunk.sample_ids
    assert [reject.broken for reject in chunk.rejects] == [True]


# Pass 1


def test_scores_equal_a_direct_computation_sample_by_sample(score, chunks):
    even = mixed(0.5, 0.5)
    for chunk in chunks:
        table = score(chunk)
        assert table.schema == tables.EXPERTS
        assert table["sample_id"].to_pylist() == chunk.sample_ids
        assert table["label"].to_pylist() == chunk.labels
        for m, temperature in enumerate(TEMPERATURES):
            logits = exact_logits(chunk, expert_state(m))
            p = softmax(logits, temperature)
            np.testing.assert_array_equal(
                values(table, "expert_prediction")[:, m], logits.argmax(1)
            )
            for name, expected in (
                ("expert_confidence", p.max(axis=1)),
                ("expert_entropy", entropy(p)),
                ("log_expertise", -entropy(p)),
            ):
                found = values(table, name)[:, m]
                np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=name)
        expected = exact_logits(chunk, even).argmax(axis=1)
        np.testing.assert_array_equal(values(table, "even_prediction"), expected)


def test_the_experts_differ_so_that_the_tests_can_fail(score, chunks):
    table = score(chunks[0])
    for name in ("expert_entropy", "expert_prediction"):
        first, second = values(table, name).T
        assert (first != second).any(), name
        assert len(set(first)) > 1, name


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_scores_do_not_depend_on_the_batch_size(small, score, chunks, batch_size):
    other = copy.copy(score)
    other.spec = make_spec(small, batch_size=batch_size)
    assert_same_tables(other(chunks[0]), score(chunks[0]))


def test_scores_do_not_depend_on_the_order_of_samples(score, chunks):
    chunk = chunks[0]
    order = np.random.default_rng(3).permutation(len(chunk.sample_ids))
    shuffled = dataclasses.replace(
        chunk,
        sample_ids=[chunk.sample_ids[i] for i in order],
        labels=[chunk.labels[i] for i in order],
        images=chunk.images[order],
    )
    assert_same_tables(score(shuffled), score(chunk).take(order))


def test_pixels_may_be_read_only_and_stay_as_they_are(score, chunks):
    chunk = dataclasses.replace(chunks[0], images=chunks[0].images.copy())
    chunk.images.flags.writeable = False
    assert_same_tables(score(chunk), score(chunks[0]))
    np.testing.assert_array_equal(chunk.images, chunks[0].images)


def test_without_the_even_interpolation_its_column_is_null_and_no_model_is_made(small, chunks):
    stage = ScoreExperts(make_spec(small, baselines=NO_EVEN))
    assert not stage.static
    table = stage(chunks[0])
    assert table["even_prediction"].null_count == len(chunks[0].sample_ids)
    assert table["expert_entropy"].null_count == 0


def test_a_merged_pseudo_label_needs_no_even_column(small, chunks):
    config = CoefficientConfig(metric="cross_entropy", target="hard_merged")
    table = ScoreExperts(make_spec(small, coefficient=config, baselines=NO_EVEN))(chunks[0])
    assert table["even_prediction"].null_count == table.num_rows
    target = exact_logits(chunks[0], mixed(0.5, 0.5)).argmax(axis=1)
    for m in range(2):
        p = softmax(exact_logits(chunks[0], expert_state(m)))
        expected = np.log(p[np.arange(len(p)), target])
        found = values(table, "log_expertise")[:, m]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2 * TOLERANCE)


@pytest.fixture(scope="module")
def oracle(small) -> ScoreExperts:
    config = CoefficientConfig(metric="cross_entropy", target="labels")
    return ScoreExperts(make_spec(small, coefficient=config))


def test_the_oracle_measures_experts_by_the_true_labels(oracle, chunks):
    table = oracle(chunks[0])
    for m in range(2):
        p = softmax(exact_logits(chunks[0], expert_state(m)))  # the raw logits: no temperature
        expected = np.log(p[np.arange(len(p)), chunks[0].labels])
        found = values(table, "log_expertise")[:, m]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2 * TOLERANCE)


def test_the_oracle_without_a_label_is_refused_by_sample(oracle, chunks):
    labels = [*chunks[0].labels[:-1], None]  # in the second batch of seven
    chunk = dataclasses.replace(chunks[0], labels=labels)
    message = r"'s\.tar/0009' of data set 'set' has none.*metric: entropy"
    with pytest.raises(UserError, match=message):
        oracle(chunk)


def test_missing_labels_change_nothing_else(score, chunks):
    unlabelled = dataclasses.replace(chunks[0], labels=[None] * len(chunks[0].labels))
    table = score(unlabelled)
    assert table["label"].null_count == table.num_rows
    of_labels = ["label", "baseline_nll", "baseline_brier"]
    assert_same_tables(table.drop(of_labels), score(chunks[0]).drop(of_labels))
    assert np.isnan(values(table, "baseline_nll")).all()
    assert np.isnan(values(table, "baseline_brier")).all()


GROUPS = {"set": DatasetClasses(count=3, members=((5,), (0, 2), (1, 4)))}


def group(logits_NC: np.ndarray) -> np.ndarray:
    return np.stack([logits_NC[:, list(g)].max(axis=1) for g in GROUPS["set"].members], axis=1)


def of_groups(chunk: Chunk) -> Chunk:
    return dataclasses.replace(chunk, labels=[label % 3 for label in chunk.labels])


def test_entropies_and_predictions_are_over_the_data_sets_classes(small, score, chunks):
    stage = copy.copy(score)
    stage.spec = make_spec(small, tasks=tasks_of(GROUPS))
    table = stage(of_groups(chunks[0]))
    for m, temperature in enumerate(TEMPERATURES):
        logits = group(exact_logits(chunks[0], expert_state(m)))
        expected = entropy(softmax(logits, temperature))
        found = values(table, "expert_entropy")[:, m]
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        assert found.max() <= math.log(3)
        np.testing.assert_array_equal(values(table, "expert_prediction")[:, m], logits.argmax(1))
    expected = group(exact_logits(chunks[0], mixed(0.5, 0.5))).argmax(axis=1)
    np.testing.assert_array_equal(values(table, "even_prediction"), expected)


def test_a_value_that_is_not_finite_stops_the_run_with_its_sample(score, chunks):
    stage = copy.copy(score)
    stage.models = [score.models[0], copy.deepcopy(score.models[1])]
    head = stage.models[1].heads[CHECKPOINT_HEAD]
    head.weight = torch.nn.Parameter(head.weight * float("inf"), requires_grad=False)
    with pytest.raises(FloatingPointError, match=r"'s\.tar/0000' in data set 'set'.*float32"):
        stage(chunks[0])


# Pass 2


def coefficients_of(table) -> np.ndarray:
    """lambda_m = e_m / sum of e, e = exp(-H): the paper's rule, float64 [N, M]."""
    e = np.exp(-values(table, "expert_entropy"))
    return e / e.sum(axis=1, keepdims=True)


def test_predictions_equal_merging_by_hand_for_each_cluster(score, predict, fits, chunks):
    means = fits["set"].mixture.means
    np.testing.assert_allclose(means[:, 1], [0.35, 0.5, 0.65])
    found_clusters = set()
    for chunk in chunks:
        experts = score(chunk)
        table = predict(chunk, experts)
        assert table.schema == tables.PREDICTIONS
        coefficients = coefficients_of(experts)
        found = values(table, "coefficient")
        np.testing.assert_allclose(found, coefficients, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-6)  # float32 ulps
        # equal weights and precisions: the nearest mean, but for the borders between two
        clusters = fits["set"].mixture.predict(coefficients)
        assert values(table, "cluster").tolist() == clusters.tolist()
        found_clusters |= set(clusters.tolist())
        logits = np.empty((len(clusters), CLASSES))
        for cluster, mean in enumerate(means):
            logits[clusters == cluster] = exact_logits(chunk, mixed(*mean))[clusters == cluster]
        p = softmax(logits)
        assert values(table, "prediction").tolist() == p.argmax(axis=1).tolist()
        top = np.argsort(-p, axis=1)[:, : tables.TOP_CLASSES]
        assert values(table, "top_classes").tolist() == top.tolist()
        for name, expected in (
            ("confidence", p.max(axis=1)),
            ("entropy", entropy(p)),
            ("top_probabilities", np.take_along_axis(p, top, axis=1)),
        ):
            np.testing.assert_allclose(
                values(table, name), expected, rtol=0, atol=TOLERANCE, err_msg=name
            )
    assert found_clusters == {0, 1, 2}  # or the test would have compared less than it says


def test_what_pass_one_found_is_carried_over(score, predict, chunks):
    experts = score(chunks[1])
    table = predict(chunks[1], experts)
    for name in ("sample_id", "label", "expert_prediction", "expert_confidence", "expert_entropy",
                 "even_prediction"):  # fmt: skip
        assert table[name].equals(experts[name]), name
    # float32_prediction is for lower precisions, fit_* for other fits
    filled = [name for name in table.column_names if not name.startswith(("float32_", "fit_"))]
    assert all(table[name].null_count == 0 for name in filled)


def test_the_offset_of_the_fit_is_applied(small, score, predict, chunks):
    offset = Offset(bias=0.4, shares=np.array([0.7, 0.3]))
    stage = copy.copy(predict)
    stage.fits, stage.models.merged = {"set": make_fit(0.4, 0.6, offset=offset)}, {}
    experts = score(chunks[0])
    e = np.exp(-values(experts, "expert_entropy")) + 0.4 * offset.shares
    expected = e / e.sum(axis=1, keepdims=True)
    found = values(stage(chunks[0], experts), "coefficient")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_predictions_do_not_depend_on_the_batch_size(small, score, predict, chunks, batch_size):
    other = copy.copy(predict)
    other.spec = make_spec(small, batch_size=batch_size)
    experts = score(chunks[0])
    assert_same_tables(other(chunks[0], experts), predict(chunks[0], experts))


def test_predictions_over_grouped_classes_have_as_many_top_classes(small, score, predict, chunks):
    first, second = (
        copy.copy(score),
        Predict(make_spec(small, tasks=tasks_of(GROUPS)), predict.fits),
    )
    first.spec = second.spec
    chunk = of_groups(chunks[0])
    table = second(chunk, first(chunk))
    assert values(table, "top_classes").shape == (len(chunks[0].sample_ids), 3)
    np.testing.assert_allclose(values(table, "top_probabilities").sum(axis=1), 1, atol=1e-6)
    clusters = values(table, "cluster")
    for cluster, mean in enumerate(second.fits["set"].mixture.means):
        logits = group(exact_logits(chunks[0], mixed(*mean)))[clusters == cluster]
        found = values(table, "entropy")[clusters == cluster]
        np.testing.assert_allclose(found, entropy(softmax(logits)), rtol=0, atol=TOLERANCE)


def test_task_vectors_are_added_to_the_base(small, score, chunks):
    spec = make_spec(small, scale=0.4)
    head = head_of_file(small.checkpoints[2])  # over a base one head serves all models
    model = dataclasses.replace(spec.model, base=small.checkpoints[2], heads=(head,))
    tasks = {name: Task(head.key, of_set) for name, of_set in ALL_CLASSES.items()}
    spec = dataclasses.replace(spec, model=model, tasks=tasks)
    experts = score(chunks[0])
    table = Predict(spec, {"set": make_fit(0.3)})(chunks[0], experts)
    # theta_0 + s M sum of lambda_t (theta_t - theta_0), s M = 0.8
    merged = mixed(0.8 * 0.7, 0.8 * 0.3, 1 - 0.8)
    whole = merged | {k: v for k, v in expert_state(2).items() if not k.startswith("visual.")}
    p = softmax(exact_logits(chunks[0], whole))
    np.testing.assert_allclose(values(table, "entropy"), entropy(p), rtol=0, atol=TOLERANCE)
    assert values(table, "prediction").tolist() == p.argmax(axis=1).tolist()


@pytest.mark.parametrize("change", ["renamed", "fewer", "reordered"])
def test_other_samples_than_in_pass_one_stop_the_run(score, predict, chunks, change):
    experts = score(chunks[0])
    ids = {
        "renamed": [*chunks[0].sample_ids[:-1], "s.tar/new"],
        "fewer": chunks[0].sample_ids[:-1],
        "reordered": chunks[0].sample_ids[::-1],
    }[change]
    chunk = dataclasses.replace(
        chunks[0], sample_ids=ids, labels=chunks[0].labels[: len(ids)],
        images=chunks[0].images[: len(ids)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match=rf"{chunks[0].name} of data set 'set'.*new run_dir"):
        predict(chunk, experts)


def of_other(chunk: Chunk) -> Chunk:
    return dataclasses.replace(chunk, dataset="other")


def test_models_are_merged_once_for_each_cluster_of_a_fit(small, score, chunks):
    shared = make_fit(0.4, 0.6)
    stage = Predict(make_spec(small), {"set": shared, "other": shared})
    assert stage.models.merges == 0
    for chunk in chunks:
        stage(chunk, score(chunk))
        assert stage.models.merges == 2
    stage(of_other(chunks[0]), score(chunks[0]))  # the same fit: `fit: joint`
    assert stage.models.merges == 2
    stage.fits = {"set": shared, "other": make_fit(0.3, 0.5, 0.7)}
    stage(of_other(chunks[0]), score(chunks[0]))
    stage(chunks[0], score(chunks[0]))
    assert stage.models.merges == 5


def test_without_memory_for_two_fits_the_results_are_the_same(small, score, predict, chunks):
    stage = copy.copy(predict)
    stage.models.merged, stage.models.merges, stage.models.budget = {}, 0, 0
    experts = [score(chunk) for chunk in chunks]
    for chunk, scored in zip(chunks, experts, strict=True):
        for one in (chunk, of_other(chunk)):
            assert stage(one, scored).equals(predict(one, scored))
            assert len(stage.models.merged) == 1
    assert stage.models.merges == len(chunks) * (3 + 2)


def test_the_least_recently_used_models_make_room(small, score, predict, chunks):
    stage = copy.copy(predict)
    one = sum(tensor.numel() for tensor in stage.models.experts.states[0].values()) * 4
    stage.models.merged, stage.models.merges, stage.models.budget = {}, 0, 3.5 * one
    fits = {name: make_fit(mean) for name, mean in (("a", 0.3), ("b", 0.4), ("c", 0.5), ("d", 0.6))}
    for name in "abcad":  # a is used again, so that d displaces b
        stage.models.of(fits[name])
    assert set(stage.models.merged) == {id(fits[name]) for name in "cad"}
    assert stage.models.merges == 4


# A chunk of which nothing is left


def test_an_empty_chunk_passes_all_stages(tmp_path, score, predict):
    [shard] = shards_of(write_parquet(tmp_path / "p.parquet", [b"x", b"y"], [0, 1]))
    [chunk] = DecodeImages(score.preprocessing, 10, ALL_CLASSES)(shard)
    assert (chunk.sample_ids, len(chunk.rejects), len(chunk.images)) == ([], 2, 0)
    experts = score(chunk)
    assert (experts.schema, experts.num_rows) == (tables.EXPERTS, 0)
    predictions = predict(chunk, experts)
    assert (predictions.schema, predictions.num_rows) == (tables.PREDICTIONS, 0)


def test_every_baseline_is_the_model_it_says(small, chunks):
    """Against models merged by hand for each sample, and outputs combined in numpy."""
    baselines = BaselinesConfig(
        static=(0, 0.3, 0.5, 1), exact=True, oracle=True, random=True,
        coefficients=(CoefficientConfig(metric="confidence"),),
    )  # fmt: skip
    stage = ScoreExperts(make_spec(small, baselines=baselines))
    chunk = chunks[0]
    table = stage(chunk)
    names = [method.name for method in stage.spec.methods]
    assert names == [
        "e0", "e1", "even_output_ensemble", "dynamic_output_ensemble", "selection",
        "even_interpolation", "static_0.3", "exact", "exact_confidence", "oracle",
        "random_uniform", "random_normal_0.5", "random_normal_0.8",
    ]  # fmt: skip
    logits = [exact_logits(chunk, expert_state(m)) for m in range(2)]
    p = [softmax(x, t) for x, t in zip(logits, TEMPERATURES, strict=True)]
    h = np.stack([entropy(x) for x in p], axis=1)
    rows, labels = np.arange(len(chunk.labels)), np.array(chunk.labels)

    def shares(scores):
        e = np.exp(scores)
        return e / e.sum(axis=1, keepdims=True)

    def of_each(coefficients):
        """Class probabilities of the model merged with each sample's own coefficients."""
        found = [
            exact_logits(chunk.select(slice(i, i + 1)), mixed(*c))[0]
            for i, c in enumerate(coefficients)
        ]
        return softmax(np.stack(found))

    own = shares(-h)
    losses = np.stack([np.log(x[rows, labels]) for x in map(softmax, logits)], axis=1)
    confidences = np.stack([x.max(axis=1) for x in p], axis=1)
    expected = {
        "e0": p[0],
        "e1": p[1],
        "even_output_ensemble": (p[0] + p[1]) / 2,
        "dynamic_output_ensemble": own[:, :1] * p[0] + own[:, 1:] * p[1],
        "selection": np.where(h[:, :1] <= h[:, 1:], p[0], p[1]),
        "even_interpolation": softmax(exact_logits(chunk, mixed(0.5, 0.5))),
        "static_0.3": softmax(exact_logits(chunk, mixed(0.7, 0.3))),
        "exact": of_each(own),
        "exact_confidence": of_each(shares(confidences)),
        "oracle": of_each(shares(losses)),
    } | {
        name: of_each(outcomes.random_coefficients(name, chunk.name, len(rows), 2))
        for name in names if name.startswith("random")
    }  # fmt: skip
    for q, name in enumerate(names):
        probabilities = expected[name]
        np.testing.assert_array_equal(
            values(table, "baseline_prediction")[:, q], probabilities.argmax(axis=1), name
        )
        y = np.eye(probabilities.shape[1])[labels]
        for column, wanted in (
            ("confidence", probabilities.max(axis=1)),
            ("nll", -np.log(probabilities[rows, labels])),
            ("brier", ((probabilities - y) ** 2).sum(axis=1)),
        ):
            found = values(table, f"baseline_{column}")[:, q]
            np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5, err_msg=name)


def test_what_is_merged_once_is_the_model_it_says(small, chunks, tmp_path):
    """Task vectors over a base, with a head that is the same for all, against weights by hand."""
    base, *experts = (expert_state(seed) for seed in (2, 0, 1))
    head = {k: v for k, v in expert_state(5).items() if k.startswith("classification_head.")}
    save_file(head, tmp_path / "head.safetensors")
    spec_of_head = head_of_file(str(tmp_path / "head.safetensors"))
    task = Task(spec_of_head.key, ALL_CLASSES["set"], expert="e1")
    towers = [{k: v for k, v in x.items() if k not in head} for x in (base, *experts)]
    spec = make_spec(
        small,
        tasks={"set": task, "other": task},
        scale=0.2,
        baselines=BaselinesConfig(
            output_ensembles=False, own_expert=True, averaging=True, task_arithmetic=(0.2, 0.5),
            ties=TiesConfig(scale=0.7), base=True,
        ),
        trim=Trim.of(towers[0], towers[1:], 0.4),
    )  # fmt: skip
    model = dataclasses.replace(spec.model, base=small.checkpoints[2], heads=(spec_of_head,))
    stage = ScoreExperts(dataclasses.replace(spec, model=model))
    assert list(stage.static) == [
        "even_interpolation", "averaging", "task_arithmetic_0.5", "ties", "base",
    ]  # fmt: skip

    def moved(scale):
        return {
            k: v + scale * sum(expert[k] - v for expert in experts) for k, v in towers[0].items()
        }

    ends = np.cumsum([towers[0][k].numel() for k in sorted(towers[0])])[:-1]
    parts = np.split(by_the_paper(towers[0], towers[1:], 0.4, 0.7), ends)
    weights = {
        "e0": experts[0],
        "e1": experts[1],
        "own_expert": experts[1],
        "even_interpolation": moved(0.2),
        "averaging": {k: (experts[0][k] + experts[1][k]) / 2 for k in towers[0]},
        "task_arithmetic_0.2": moved(0.2),
        "task_arithmetic_0.5": moved(0.5),
        "ties": {
            k: torch.from_numpy(part).view(towers[0][k].shape)
            for k, part in zip(sorted(towers[0]), parts, strict=True)
        },
        "base": base,
    }
    temperatures = {"e0": TEMPERATURES[0]} | dict.fromkeys(("e1", "own_expert"), TEMPERATURES[1])
    chunk, table = chunks[0], stage(chunks[0])
    names = [method.name for method in stage.spec.methods]
    assert names == list(weights)
    for q, name in enumerate(names):
        p = softmax(exact_logits(chunk, weights[name] | head), temperatures.get(name, 1.0))
        np.testing.assert_array_equal(
            values(table, "baseline_prediction")[:, q], p.argmax(axis=1), name
        )
        np.testing.assert_allclose(
            values(table, "baseline_nll")[:, q],
            -np.log(p[np.arange(len(p)), chunk.labels]), rtol=2e-4, atol=2e-5, err_msg=name,
        )  # fmt: skip


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 0.2), (0.8, 0.1)])
def test_normal_controls_are_the_references(mean, deviation):
    """Against the mass, mean and deviation of the normal distribution that they are clamped of."""
    name, count = f"random_normal_{mean}", 200_000
    rows = outcomes.random_coefficients(name, "chunk", count, 2)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    last = rows[:, 1]
    assert last.min() >= 0.01
    assert last.max() == 0.99
    below, above = (stats.norm.cdf((x - mean) / deviation) for x in (0.01, 0.99))
    assert (last == 0.01).mean() == pytest.approx(below, abs=1e-3)
    assert (last == 0.99).mean() == pytest.approx(1 - above, abs=2e-3)
    z = np.linspace(-8, 8, 20_001)
    wanted = np.clip(mean + deviation * z, 0.01, 0.99)
    weights = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    assert last.mean() == pytest.approx((wanted * weights).sum(), abs=2e-3)
    spread = ((wanted - (wanted * weights).sum()) ** 2 * weights).sum() ** 0.5
    assert last.std() == pytest.approx(spread, abs=2e-3)


def test_random_controls_depend_on_the_sample_alone(small, chunks):
    baselines = BaselinesConfig(random=True)
    one, other = (
        ScoreExperts(make_spec(small, baselines=baselines, batch_size=size))(chunks[0])
        for size in (3, 10)
    )
    assert_same_tables(one, other)


def test_the_oracle_predicts_nothing_without_a_label(small, chunks):
    stage = ScoreExperts(make_spec(small, baselines=BaselinesConfig(oracle=True)))
    labels = [None, *chunks[0].labels[1:]]
    oracle = [method.name for method in stage.spec.methods].index("oracle")
    found = values(stage(dataclasses.replace(chunks[0], labels=labels)), "baseline_prediction")
    assert found[0, oracle] == -1
    assert (found[1:, oracle] >= 0).all()
    found = values(
        stage(dataclasses.replace(chunks[0], labels=[None] * len(labels))), "baseline_prediction"
    )
    assert (found[:, oracle] == -1).all()


def test_the_exact_baseline_has_the_coefficients_of_the_job():
    baselines = BaselinesConfig(exact=True)
    for config in (
        CoefficientConfig(metric="margin"),
        CoefficientConfig(metric="cross_entropy", target="labels"),
        CoefficientConfig(offset_adjustment=True),
    ):
        methods = comparisons.methods_of(baselines, ["a", "b"], config)
        [exact] = [method for method in methods if method.name == "exact"]
        assert (exact.coefficient.metric, exact.coefficient.target) == (
            config.metric, config.target
        )  # fmt: skip
        assert not exact.coefficient.needs_fit
        assert exact.uses_labels == config.needs_labels
