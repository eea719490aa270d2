"""Drift: silent without it, loud with it, and never NaN."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from dawin_ray.method.fit import Fit
from dawin_ray.method.mixture import Mixture
from dawin_ray.records import read_record, write_record
from dawin_ray.runs.fits import FitEntry, SavedFits
from dawin_ray.statistics import sketch
from dawin_ray.statistics.distribution import Distribution, ScoredRows
from dawin_ray.statistics.drift import DriftConfig, drift_of
from dawin_ray.statistics.sketch import Sketch

CLASSES = 10
ROWS = ("entropy", "coefficient", "cluster", "expert_prediction")
NO_LEAST = {"min_psi": 0, "min_wasserstein": 0, "min_occupancy": 0, "min_disagreement": 0}


@dataclass(frozen=True)
class Batch:
    entropies: np.ndarray  # [N, M]
    coefficients: np.ndarray  # [N, M]
    clusters: np.ndarray | None  # [N]
    predictions: np.ndarray  # [N, M]

    @property
    def names(self):
        return [f"e{i}" for i in range(self.entropies.shape[1])]

    def entry(self, clusters=3):
        shape = (clusters, self.entropies.shape[1])
        mixture = Mixture(
            concentrations=np.ones(shape), weights=np.ones(clusters) / clusters,
            mean_log_likelihood=0.0, converged=True, iterations=1, samples=len(self.entropies),
        )  # fmt: skip
        fit = Fit(samples=len(self.entropies), mixture=mixture)
        rows = ScoredRows.of(**dict(zip(ROWS, self, strict=True)))
        entry = FitEntry.of(fit, self.names, rows, count=CLASSES, classes="digest")
        saved = SavedFits(code="1", names=(), identity={}, datasets={"set": entry})
        return read_record(SavedFits, write_record(saved), "fit.json").datasets["set"]

    def __iter__(self):
        return iter((self.entropies, self.coefficients, self.clusters, self.predictions))


def make_batch(rng, n, experts=2, scale=0.2, disagreement=0.05) -> Batch:
    """Exponential entropies, cut at ln C; Beta coefficients; thirds of them as clusters."""
    h = rng.exponential(scale, (n, experts)).clip(0, np.log(CLASSES)).astype(np.float32)
    lam = rng.beta(2 + 5 * (scale - 0.2), 2, n)
    c = np.stack([1 - lam, *[lam / (experts - 1)] * (experts - 1)], axis=1)
    predictions = np.repeat(rng.integers(0, CLASSES, (n, 1)), experts, axis=1)
    predictions[rng.random(n) < disagreement, -1] = CLASSES
    return Batch(h, c, (lam * 3).astype(np.int32).clip(0, 2), predictions)


def drift(entry, batch, **config):
    rows = ScoredRows.of(
        entropy=batch.entropies,
        coefficient=batch.coefficients,
        cluster=batch.clusters,
        expert_prediction=batch.predictions,
    )
    found = drift_of(entry, batch.names, rows, DriftConfig(**config))
    return json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))


def kinds(found, quantity=None, of=None):
    return {s["kind"]: s for s in found["statistics"] if (s["quantity"], s["of"]) == (quantity, of)}


def test_without_drift_no_more_alarms_than_stated():
    """Not even without smallest effects, which can only take alarms away."""
    rng = np.random.default_rng(5)
    alarms, trials = 0, 200
    for _ in range(trials):
        found = drift(make_batch(rng, 600).entry(), make_batch(rng, 500), **NO_LEAST)
        alarms += bool(found["alarms"])
    assert alarms <= trials / 100


def test_p_values_without_drift_are_uniform():
    """Bonferroni would hide a null that is too wide or too narrow; each statistic must hold."""
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(60):
        found = drift(make_batch(rng, 300).entry(), make_batch(rng, 500))
        p_values.append([s["p"] for s in found["statistics"]])
    for p in np.transpose(p_values):
        low, high = stats.binom.interval(0.9999, len(p_values), 0.2)
        assert low <= (p < 0.2).sum() <= high
        assert low <= (p > 0.8).sum() <= high


def test_a_shift_is_flagged_with_words():
    rng = np.random.default_rng(0)
    found = drift(make_batch(rng, 600).entry(), make_batch(rng, 500, scale=0.5, disagreement=0.3))
    for s in found["statistics"]:
        assert s["alarm"] == (s["value"] > s["threshold"])
        assert s["alarm"]
        assert s["p"] < 0.005 / len(found["statistics"])
    assert found["alarms"][:2] == ["entropy of e0 (PSI)", "entropy of e0 (Wasserstein distance)"]
    assert found["words"].startswith("entropy of e0: PSI ")
    assert found["disagreement"]["batch"] > 0.2
    # two complementary coefficients are judged once
    of = [s["of"] for s in found["statistics"] if s["quantity"] == "coefficient"]
    assert of == ["e1", "e1"]
    assert len(found["statistics"]) == 8


def test_values_are_those_of_textbook_formulas():
    rng = np.random.default_rng(1)
    reference, batch = make_batch(rng, 2000), make_batch(rng, 1000, scale=0.3)
    found = drift(reference.entry(), batch)
    for i, name in enumerate(batch.names):
        a, b = reference.entropies[:, i], batch.entropies[:, i]
        one = kinds(found, "entropy", name)
        distance = one["wasserstein"]["value"]
        assert distance == pytest.approx(stats.wasserstein_distance(a, b), rel=0.05)
        assert one["wasserstein"]["effect"] == pytest.approx(distance / a.std(ddof=1), rel=1e-3)
        edges = np.r_[-np.inf, np.quantile(a, np.arange(1, 10) / 10), np.inf]
        p, q = (np.histogram(v, edges)[0] / len(v) for v in (b, a))
        assert one["psi"]["value"] == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=0.02)
    p, q = (np.bincount(x.clusters, minlength=3) / len(x.clusters) for x in (batch, reference))
    effect = kinds(found)["occupancy"]["effect"]
    assert effect == pytest.approx(np.sqrt(((p - q) ** 2 / q).sum()), rel=0.02)
    assert kinds(found)["disagreement"]["value"] == pytest.approx(
        abs((x := found["disagreement"])["batch"] - x["reference"])
    )


def test_in_a_large_batch_a_small_difference_is_no_alarm():
    rng = np.random.default_rng(2)
    entry = make_batch(rng, 50_000).entry()
    batch = make_batch(rng, 50_000, scale=0.21)
    assert drift(entry, batch)["alarms"] == []
    assert drift(entry, batch, **NO_LEAST)["alarms"]


def with_entropies(batch, h):
    return Batch(h, batch.coefficients, batch.clusters, batch.predictions)


@pytest.mark.parametrize("share", [0.35, 0.95, 1.0])
@pytest.mark.parametrize("tied", [0.0, 0.5])
def test_tied_entropies_alarm_only_where_they_change(share, tied):
    rng = np.random.default_rng(3)

    def batch(n, share):
        made = make_batch(rng, n)
        return with_entropies(made, np.where(rng.random((n, 2)) < share, tied, made.entropies))

    entry = batch(400, share).entry()
    assert not any(drift(entry, batch(500, share))["alarms"] for _ in range(20))
    changed = drift(batch(400, share).entry(), batch(500, share - 0.3))
    assert "entropy of e0 (PSI)" in changed["alarms"]


def test_one_outlier_beyond_an_all_equal_reference_is_no_alarm():
    rng = np.random.default_rng(4)
    entry = with_entropies(make_batch(rng, 400), np.zeros((400, 2))).entry()
    h = np.zeros((500, 2))
    h[0] = 2.0
    assert drift(entry, with_entropies(make_batch(rng, 500), h))["alarms"] == []
    h[:50] = 2.0
    found = drift(entry, with_entropies(make_batch(rng, 500), h))
    assert kinds(found, "entropy", "e0")["wasserstein"]["value"] == pytest.approx(0.2)
    assert kinds(found, "entropy", "e0")["wasserstein"]["alarm"]


@pytest.mark.parametrize(("reference", "n"), [(400, 0), (400, 49), (49, 400)])
def test_too_few_samples_are_not_judged(reference, n):
    rng = np.random.default_rng(0)
    found = drift(make_batch(rng, reference).entry(), make_batch(rng, n, scale=2.0))
    assert (found["judged"], found["statistics"], found["alarms"]) == (False, [], [])
    assert found["words"].startswith(f"Not judged: {min(n, reference)} samples")
    assert drift(make_batch(rng, 50).entry(), make_batch(rng, 50))["judged"]


def test_one_cluster_and_the_exact_mode_have_no_occupancy():
    rng = np.random.default_rng(0)
    for clusters in (np.zeros(400, dtype=np.int32), None):
        made = make_batch(rng, 400)
        batch = Batch(made.entropies, made.coefficients, clusters, made.predictions)
        found = drift(batch.entry(clusters=1), batch)
        assert "occupancy" not in kinds(found)
        assert found["clusters"] is None
        assert len(found["statistics"]) == 7


def test_a_cluster_unseen_in_the_reference_counts():
    rng = np.random.default_rng(0)
    reference, batch = make_batch(rng, 400), make_batch(rng, 500)
    entry = dataclasses.replace(reference.entry(), clusters=(200, 200, 0))
    rare = Batch(batch.entropies, batch.coefficients, np.arange(500) % 2, batch.predictions)
    rare.clusters[0] = 2
    assert not kinds(drift(entry, rare))["occupancy"]["alarm"]
    rare.clusters[:100] = 2
    assert kinds(drift(entry, rare))["occupancy"]["alarm"]


def test_three_experts_have_three_coefficients_each():
    rng = np.random.default_rng(8)
    entry = make_batch(rng, 600, experts=3).entry()
    found = drift(entry, make_batch(rng, 500, experts=3))
    assert len(found["statistics"]) == 2 * (3 + 3) + 2
    assert found["alarms"] == []
    assert drift(entry, make_batch(rng, 500, experts=3, scale=0.5))["alarms"]


def test_percentiles_of_the_summary_are_those_of_numpy():
    values = np.r_[np.zeros(30), np.random.default_rng(0).exponential(size=170)]
    values = values.astype(np.float32).astype(np.float64)
    found = dataclasses.asdict(Distribution.of(Sketch.of(values), (0.0, 5.0)))
    np.testing.assert_array_equal(
        list(found["quantiles"].values()), np.quantile(values, np.arange(101) / 100)
    )
    assert list(found["quantiles"])[:3] == ["0.0", "0.01", "0.02"]
    assert found["quantiles"]["0.5"] == np.median(values)
    assert found["at_most"] == tuple((values <= q).sum() for q in found["quantiles"].values())
    assert found["below"] == tuple((values < q).sum() for q in found["quantiles"].values())
    assert (found["below"][0], found["at_most"][0]) == (0, 30)


def test_disagreements_and_clusters_of_the_entry():
    batch = make_batch(np.random.default_rng(0), 100, experts=3)
    predictions = np.zeros((100, 3), dtype=np.int32)
    predictions[:7, 1] = 1
    predictions[5:9, 2] = 1
    entry = Batch(batch.entropies, batch.coefficients, np.ones(100, np.int32), predictions).entry()
    assert entry.disagreements == 9
    assert entry.clusters == (0, 100, 0)


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError):
        DriftConfig(alhpa=0.1)
    with pytest.raises(ValidationError):
        DriftConfig(alpha=0)


def under(monkeypatch, most, make):
    with monkeypatch.context() as patch:
        patch.setattr(sketch, "MAX_BINS", most)
        return make()


@pytest.mark.parametrize("shifted", [False, True])
def test_dropped_bits_of_reference_or_batch_are_no_drift(monkeypatch, shifted):
    """Tied values too, which are others once bits are dropped: a batch is as coarse as it needs."""
    rng = np.random.default_rng(0)

    def made(n, scale=0.2):
        found = make_batch(rng, n, scale=scale)
        tied = rng.random((n, 2)) < 0.4
        return dataclasses.replace(
            found, entropies=np.where(tied, 0.3, found.entropies).astype(np.float32)
        )

    reference, batch = made(6_000), made(3_000, 0.24 if shifted else 0.2)
    rows = dict(zip(ROWS, batch, strict=True))
    fine, coarse = 1 << 16, 200
    entries = {most: under(monkeypatch, most, reference.entry) for most in (fine, coarse)}
    batches = {
        most: under(monkeypatch, most, lambda: ScoredRows.of(**rows)) for most in (fine, coarse)
    }
    assert [entries[most].entropy["e0"].level for most in (fine, coarse)] == [0, 19]
    assert [batches[most].entropy[0].level for most in (fine, coarse)] == [0, 19]

    def judged(of_reference, of_batch):
        config = DriftConfig(**NO_LEAST)
        return drift_of(entries[of_reference], batch.names, batches[of_batch], config)

    exact = judged(fine, fine)
    assert judged(coarse, fine) == judged(coarse, coarse)
    assert bool(exact.alarms) == shifted
    width = max(values.width for values in batches[coarse].entropy)
    for found in (judged(coarse, fine), judged(fine, coarse)):
        assert bool(found.alarms) == shifted
        for one, other in zip(found.statistics, exact.statistics, strict=True):
            if one.kind == "wasserstein":
                assert one.alarm == other.alarm
                assert abs(one.value - other.value) < width


def test_a_tied_value_that_moves_within_its_interval_is_no_drift(monkeypatch):
    """Of a coarse reference, which does not know where in the interval it lay; a finer one does."""
    rng = np.random.default_rng(7)

    def made(n, tied):
        found = make_batch(rng, n)
        entropies = np.where(rng.random((n, 2)) < 0.4, tied, found.entropies)
        return dataclasses.replace(found, entropies=entropies.astype(np.float32))

    reference = made(6_000, 0.3)
    entries = {most: under(monkeypatch, most, reference.entry) for most in (1 << 16, 200)}
    level = entries[200].entropy["e0"].level
    key = int(np.float32(0.3).view(np.uint32)) >> level << level
    first, beyond = (np.uint32(k).view(np.float32) for k in (key, key + (1 << level)))
    assert (entries[1 << 16].entropy["e0"].level, first < 0.3 < beyond) == (0, True)

    def alarms(most, tied):
        return "entropy of e0 (PSI)" in drift(entries[most], made(3_000, tied))["alarms"]

    assert [alarms(200, tied) for tied in (0.3, first, beyond)] == [False, False, True]
    assert [alarms(1 << 16, tied) for tied in (0.3, first, beyond)] == [False, True, True]
