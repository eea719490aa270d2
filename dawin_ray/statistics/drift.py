"""Has the data changed since the fit? A batch against the reference in fit.json.

Per statistic there is a value, an effect that does not grow with the batch, and what chance alone
makes of both, which is simulated: what batches of n look like that come from where the reference's
samples came from, of which only the reference is known. Cut at the reference's own percentiles,
the shares that an unknown continuous law gives to the bins are Dirichlet distributed with the
reference's counts (spacings of order statistics; Wilks, "Statistical prediction with special
reference to the problem of tolerance limits", 1942), and a batch's counts multinomial given them.
That holds for small batches and small references alike, where the limit laws do not yet: for
Wasserstein's distance, the integral of a Brownian bridge over the quantile function (del Barrio,
Giné and Matrán, Annals of Probability, 1999), which this tends to.

A reference of more than `sketch.MAX_BINS` different values keeps intervals of them, 2^(level - 23)
of a value wide, and a batch is held against it as coarsely: values that move within their interval
have not moved, tied ones too, though a finer reference would see all of their share leave one
place. What leaves the interval is seen, and Wasserstein's distance is off by a width at most.
Shapes: N samples, M experts, K clusters, D draws, B bins, E cuts between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydantic import Field

from dawin_ray.settings import Settings
from dawin_ray.statistics.distribution import Distribution, ReferenceRows, ScoredRows
from dawin_ray.statistics.sketch import Sketch

DRAWS = 20_000  # simulated batches

SEED = 1_999  # of the draws

PSI_BINS = 10  # deciles, as is the practice of credit scoring

# Added to each count of a PSI, whose logarithm an empty bin would make infinite.
PSI_PRIOR = 0.5

# Added to each count of a category (Jeffreys' prior), so that one unseen so far is not impossible.
JEFFREYS = 0.5

# Nats, and shares: an expert that is always certain has no spread to measure a distance by.
SMALLEST_SPREAD = 0.01

KINDS = {
    "psi": "PSI", "wasserstein": "Wasserstein distance", "occupancy": "chi-square",
    "disagreement": "difference of shares",
}  # fmt: skip


class DriftConfig(Settings):
    """When a batch is said to have drifted.

    `alpha`: the rate of false alarms of a batch, over all its statistics (Bonferroni).
    `min_samples`: smaller batches and references are not judged. `min_*`: the smallest effects
    that are an alarm, so that in a large batch not every difference is one: PSI; Wasserstein's
    distance in the reference's standard deviations; Cohen's w of the clusters' occupancy; and the
    difference of the shares of samples on which the experts disagree.

    Alpha is for at most one false alarm in a hundred batches, with room (jobs/studies/drift.py).
    PSI and w are where convention has a small shift begin. A fifth of a batch with blur, the
    weakest of the demo's shifts, makes a Wasserstein distance of 0.21, of which the least is half,
    and a difference of shares of 0.02.
    """

    alpha: float = Field(default=0.005, gt=0, lt=1)
    min_samples: int = Field(default=50, ge=2)
    min_psi: float = Field(default=0.1, ge=0)
    """Population stability index."""
    min_wasserstein: float = Field(default=0.1, ge=0)
    """In the reference's standard deviations."""
    min_occupancy: float = Field(default=0.1, ge=0)
    """Cohen's w of the clusters' occupancy."""
    min_disagreement: float = Field(default=0.02, ge=0)
    """Difference of the shares of samples on which the experts disagree."""


@dataclass(frozen=True, kw_only=True)
class DriftStatistic:
    """A batch against the reference of its fit, in one respect."""

    kind: str  # psi, wasserstein, occupancy or disagreement
    quantity: str | None  # entropy or coefficient
    of: str | None  # expert
    value: float
    effect: float
    threshold: float  # of the value
    p: float
    alarm: bool


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What a comparison of a batch with a reference found; shares are by `batch` and `reference`.

    It is `judged` where both are large enough; `alarms` are the names of statistics.
    """

    n: int
    reference_n: int
    judged: bool
    statistics: tuple[DriftStatistic, ...] = ()
    alarms: tuple[str, ...] = ()
    clusters: Mapping[str, tuple[float, ...]] | None = None
    disagreement: Mapping[str, float] | None = None
    words: str  # one sentence for a person


@dataclass(frozen=True, kw_only=True)
class _Statistic:
    """One comparison: what was found, and what chance alone makes of it."""

    kind: str
    quantity: str | None  # entropy or coefficient
    of: str | None  # expert
    value: float
    effect: float
    least: float  # value of the smallest effect that counts
    null: np.ndarray  # values of simulated batches without drift [D]

    @property
    def name(self) -> str:
        """For a person."""
        if self.quantity is None:
            return {"occupancy": "clusters", "disagreement": "disagreement"}[self.kind]
        return f"{self.quantity} of {self.of}"

    def judge(self, alpha: float) -> DriftStatistic:
        """An alarm is a value above the threshold."""
        # so many of the draws may reach a value that is still an alarm: p = (1 + k) / (1 + D)
        allowed = max(math.ceil(alpha * (1 + len(self.null))) - 2, 0)
        place = len(self.null) - 1 - allowed
        threshold = max(float(np.partition(self.null, place)[place]), self.least)
        return DriftStatistic(
            kind=self.kind,
            quantity=self.quantity,
            of=self.of,
            value=self.value,
            effect=self.effect,
            threshold=threshold,
            p=float((1 + (self.null >= self.value).sum()) / (1 + len(self.null))),
            alarm=bool(self.value > threshold),
        )


def drift_of(
    reference: ReferenceRows,
    names: Sequence[str],
    batch: ScoredRows,
    config: DriftConfig | None = None,
) -> DriftReport:
    """Compare a batch with the reference of a fit. Deterministic.

    Args:
        reference: of the fit's data set.
        names: of the experts.
        batch: of its coefficients, the last of two experts' stand for both.
        config: the thresholds.
    """
    config = config or DriftConfig()
    n, reference_n = batch.count, next(iter(reference.entropy.values())).n
    if min(n, reference_n) < config.min_samples:
        of = "the reference" if n >= config.min_samples else "the batch"
        words = (
            f"Not judged: {min(n, reference_n)} samples of {of}, of at least {config.min_samples}."
        )
        return DriftReport(n=n, reference_n=reference_n, judged=False, words=words)
    statistics: list[_Statistic] = []
    first = 1 if len(names) == 2 else 0  # two coefficients say the same twice
    for quantity, distributions, values, start in (
        ("entropy", reference.entropy, batch.entropy, 0),
        ("coefficient", reference.coefficient, batch.coefficient, first),
    ):
        for i, name in list(enumerate(names))[start:]:
            statistics += _of_values((quantity, name), distributions[name], values[i], config)
    clusters, known = None, reference.clusters
    if batch.clusters is not None and known is not None and len(known) > 1:
        counts_K = np.zeros(len(known), dtype=int)
        counts_K[: len(batch.clusters)] = batch.clusters
        statistics.append(_of_clusters(known, counts_K, config))
        clusters = {
            "batch": tuple((counts_K / n).tolist()),
            "reference": tuple(count / reference_n for count in known),
        }
    differing = batch.disagreements
    statistics.append(_of_disagreement(reference.disagreements, reference_n, differing, n, config))
    judged = tuple(s.judge(config.alpha / len(statistics)) for s in statistics)
    raised = [(s, j) for s, j in zip(statistics, judged, strict=True) if j.alarm]
    words = "; ".join(
        f"{s.name}: {KINDS[s.kind]} {j.value:.3g} over {j.threshold:.3g}" for s, j in raised
    ) + "." if raised else (
        f"No drift detected: {len(judged)} statistics of {n:,} samples within their thresholds "
        f"(smallest detectable: {_largest_thresholds(judged)})."
    )  # fmt: skip
    return DriftReport(
        n=n,
        reference_n=reference_n,
        judged=True,
        statistics=judged,
        alarms=tuple(f"{s.name} ({KINDS[s.kind]})" for s, _ in raised),
        clusters=clusters,
        disagreement={
            "batch": float(differing / n),
            "reference": reference.disagreements / reference_n,
        },
        words=words,
    )


def _largest_thresholds(judged: Sequence[DriftStatistic]) -> str:
    """The largest threshold of each kind, in words."""
    largest: dict[str, float] = {}
    for found in judged:
        largest[found.kind] = max(largest.get(found.kind, 0.0), found.threshold)
    return ", ".join(f"{KINDS[kind]} {value:.3g}" for kind, value in largest.items())


def _of_values(
    what: tuple[str, str], reference: Distribution, values: Sketch, config: DriftConfig
) -> list[_Statistic]:
    """PSI and Wasserstein's distance of one expert's entropies or coefficients."""
    # as coarse as the reference: its tied values would not be those of a finer batch
    values = values.coarse(reference.level)
    n, reference_n = values.count, reference.n
    cuts_E, closed_E, up_to_E = _cuts(reference)
    reference_B = np.diff(up_to_E, prepend=0, append=reference_n)
    up_to_E = np.where(closed_E, values.at_most(cuts_E), values.below(cuts_E))
    counts_B = np.diff(up_to_E, prepend=0, append=n)
    null_psi_D, null_distances_DB = _value_null(tuple(reference_B.tolist()), n)
    psi = float(_psi(_deciles(counts_B, reference_B), _deciles(reference_B, reference_B)))

    # How far values lie beyond all of the reference's, it cannot tell: chance decides how many do.
    lowest, highest = values.mean_of_first(counts_B[0]), values.mean_of_last(counts_B[-1])
    reach_below = 0.0 if lowest is None else cuts_E[0] - lowest
    reach_above = 0.0 if highest is None else highest - cuts_E[-1]
    half_widths = np.diff(cuts_E) / 2  # the trapezoidal rule
    inner_E = np.r_[0, half_widths] + np.r_[half_widths, 0]
    inner_E[0] += reach_below
    weights_B = np.r_[inner_E, reach_above]
    distance = float(_cdf_distances(counts_B, reference_B) @ weights_B)
    scale = max(reference.std, SMALLEST_SPREAD)
    common = dict(zip(("quantity", "of"), what, strict=True))
    return [
        _Statistic(
            kind="psi", value=psi, effect=psi, least=config.min_psi, null=null_psi_D, **common
        ),
        _Statistic(
            kind="wasserstein", value=distance, effect=distance / scale,
            least=config.min_wasserstein * scale,
            null=null_distances_DB @ weights_B.astype(np.float32), **common,
        ),
    ]  # fmt: skip


def _cuts(reference: Distribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where bins part, whether the left one has the cut itself, reference's counts up to it [E].

    The cuts are the smallest value, left of it, and the percentiles; tied ones have two, so that
    a bin is theirs alone: the coefficients of experts that are both certain are 1 / M.
    """
    values = np.array(list(reference.quantiles.values()), dtype=np.float64)
    up_to = np.r_[reference.below, reference.at_most]
    # where counts are equal, no sample of the reference lies between, and the first one stays
    up_to_E, which = np.unique(up_to, return_index=True)
    return np.r_[values, values][which], which >= len(values), up_to_E


def _deciles(counts_B: np.ndarray, reference_B: np.ndarray) -> np.ndarray:
    """Counts of the reference's deciles; bins go where their middles are, tied values alone."""
    middle_B = (np.cumsum(reference_B) - reference_B / 2) / reference_B.sum()
    which_B = (middle_B * PSI_BINS).astype(int).clip(0, PSI_BINS - 1)
    starts = np.flatnonzero(np.r_[True, np.diff(which_B) > 0])
    return np.add.reduceat(counts_B, starts, axis=-1)


def _psi(counts_B: np.ndarray, reference_B: np.ndarray) -> np.ndarray:
    """Population stability index, sum of (p - q) ln(p / q), of counts [..., B] and a reference's.

    The symmetrised relative entropy of Jeffreys; as an index of credit scoring, with 0.1 and 0.25
    for small and large shifts, in Siddiqi, "Credit Risk Scorecards", 2006.
    """
    p, q = (
        (c + PSI_PRIOR) / (c + PSI_PRIOR).sum(axis=-1, keepdims=True)
        for c in (counts_B, reference_B)
    )
    index: np.ndarray = ((p - q) * np.log(p / q)).sum(axis=-1)
    return index


def _cdf_distances(counts_B: np.ndarray, reference_B: np.ndarray) -> np.ndarray:
    """|F - F_reference| at the cuts, and the share beyond the last [..., B].

    Integrated over the values, that is Wasserstein's distance.
    """
    shares_B, reference_shares_B = (
        c / c.sum(axis=-1, keepdims=True) for c in (counts_B, reference_B)
    )
    differences_B = np.abs(np.cumsum(shares_B - reference_shares_B, axis=-1))
    return np.concatenate([differences_B[..., :-1], shares_B[..., -1:]], axis=-1)


@lru_cache(maxsize=16)  # of some 10 MB; references without ties have the same counts
def _value_null(reference_B: tuple[int, ...], n: int) -> tuple[np.ndarray, np.ndarray]:
    """PSI [D] and distances of F [D, B] of batches of n from where the reference came from."""
    counts_B = np.array(reference_B)
    prior_B = np.zeros(len(counts_B))
    prior_B[[0, -1]] = 1  # the next sample lies beyond all others with 1 / (reference_n + 1)
    drawn_DB = _batches(counts_B + prior_B, n)
    return (
        _psi(_deciles(drawn_DB, counts_B), _deciles(counts_B, counts_B)),
        _cdf_distances(drawn_DB, counts_B).astype(np.float32),
    )


def _batches(concentration_B: np.ndarray, n: int) -> np.ndarray:
    """Counts [D, B] of batches of n, whose shares are Dirichlet distributed."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(n, rng.dirichlet(concentration_B, size=DRAWS))


def _of_clusters(reference: Sequence[int], counts_K: np.ndarray, config: DriftConfig) -> _Statistic:
    """Chi-square of the clusters' occupancy, m w^2 with m = n n_reference / (n + n_reference).

    w is Cohen's effect size ("Statistical Power Analysis", 1988, chapter 7; small: 0.1, medium:
    0.3, large: 0.5) against the reference's shares.
    """
    smoothed_K = np.array(reference) + JEFFREYS
    shares_K = smoothed_K / smoothed_K.sum()
    n, reference_n = int(counts_K.sum()), sum(reference)
    m = n * reference_n / (n + reference_n)

    def chi_square(counts_K: np.ndarray) -> np.ndarray:
        statistic: np.ndarray = m * ((counts_K / n - shares_K) ** 2 / shares_K).sum(axis=-1)
        return statistic

    value = float(chi_square(counts_K))
    return _Statistic(
        kind="occupancy", quantity=None, of=None, value=value, effect=math.sqrt(value / m),
        least=m * config.min_occupancy**2, null=chi_square(_batches(smoothed_K, n)),
    )  # fmt: skip


def _of_disagreement(
    reference: int, reference_n: int, differing: int, n: int, config: DriftConfig
) -> _Statistic:
    """Difference of the shares of samples on which not all experts predict the same class."""
    smoothed = np.array([reference, reference_n - reference]) + JEFFREYS

    def difference(counts: np.ndarray) -> np.ndarray:
        return np.abs(counts / n - reference / reference_n)

    value = float(difference(np.array(differing)))
    return _Statistic(
        kind="disagreement", quantity=None, of=None, value=value, effect=value,
        least=config.min_disagreement, null=difference(_batches(smoothed, n)[:, 0]),
    )  # fmt: skip
