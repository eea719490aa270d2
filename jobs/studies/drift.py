"""How often does `drift` alarm without drift, and which of the demo's shifts does it flag?

    python jobs/studies/drift.py /tmp/drift.npz

The answer, with its tables, is in README.md beside this file.
"""

import argparse
import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dawin_ray.demo import CHECKPOINTS, images
from dawin_ray.demo.datasets import DATASETS, make_test_set
from dawin_ray.demo.job import model_spec
from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.expertise import entropy
from dawin_ray.method.fit import Fit, fit
from dawin_ray.method.mixture import MixtureConfig
from dawin_ray.models.experts import load_experts
from dawin_ray.runs.fits import FitEntry
from dawin_ray.statistics.distribution import ScoredRows
from dawin_ray.statistics.drift import DriftConfig, DriftReport, DriftStatistic, drift_of

CLEAN, *SHIFTS = DATASETS
NAMES = tuple(CHECKPOINTS)
CLUSTERS = 3
ALPHAS = (0.002, 0.005, 0.01, 0.02)
SHOWN_PERCENT = 20
POOL = 40_000  # fresh printed digits
SEED = 20_260_301
BATCH = 256  # images of a forward pass
TRIALS = 200
# sizes of reference and batch: parts of the 797 clean digits, and of the pool
CLEAN_SPLITS = ((747, 50), (697, 100), (397, 400), (297, 500))
POOL_SPLITS = ((2_000, 50), (2_000, 100), (2_000, 500), (2_000, 2_000), (2_000, 10_000))
# Batches of 400 samples like the reference's, and so many shifted ones, by per cent of the whole.
UNSHIFTED, SHIFTED, MIXED_TRIALS = 400, {5: 21, 10: 44, 20: 100, 50: 400}, 60
CLEAN_REFERENCE, POOL_REFERENCE = 397, 2_000
POOL_SHIFTED = 1_000  # printed digits with each shift


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What the experts say of N samples."""

    entropies: np.ndarray  # in nats [N, M]
    predictions: np.ndarray  # classes [N, M]

    def __len__(self) -> int:
        """N."""
        return len(self.entropies)

    def __getitem__(self, rows: np.ndarray) -> "Outputs":
        """Those of some samples."""
        return Outputs(self.entropies[rows], self.predictions[rows])

    def with_those_of(self, other: "Outputs") -> "Outputs":
        """Both, one after the other."""
        return Outputs(
            np.concatenate([self.entropies, other.entropies]),
            np.concatenate([self.predictions, other.predictions]),
        )


@torch.inference_mode()
def score(experts: Any, pictures: np.ndarray) -> Outputs:
    """What the demo's experts say of pictures [N, 32, 32] uint8."""
    models = [experts.classifier(s, torch.device("cpu"), torch.float32) for s in experts.states]
    crop = experts.preprocessing.crop()
    entropies, predictions = [], []
    for part in np.array_split(pictures, max(1, len(pictures) // BATCH)):
        crops = torch.from_numpy(np.stack([crop(Image.fromarray(picture)) for picture in part]))
        logits = [model(experts.preprocessing.normalise(crops)) for model in models]
        entropies.append(torch.stack([entropy(x) for x in logits], dim=1).numpy())
        predictions.append(torch.stack([x.argmax(dim=-1) for x in logits], dim=1).numpy())
    return Outputs(np.concatenate(entropies), np.concatenate(predictions))


def outputs(path: Path) -> Mapping[str, Outputs]:
    """Of the demo's data sets, and of fresh printed digits without and with shifts; kept in a file.

    `pool` are the fresh ones without, `pool.NAME` other fresh ones with a shift.
    """
    if not path.exists():
        experts = load_experts(model_spec())
        found = {name: score(experts, make_test_set(name)[0]) for name in DATASETS}
        rng = np.random.default_rng(SEED)
        found["pool"] = score(experts, images.printed_digits(POOL, images.UNSEEN_FONTS, rng)[0])
        for name, shift in images.SHIFTS.items():
            fresh = images.printed_digits(POOL_SHIFTED, images.UNSEEN_FONTS, rng)[0]
            found[f"pool.{name}"] = score(experts, shift(fresh, rng))
        np.savez(path, **{f"{n}/{k}": v for n, o in found.items() for k, v in vars(o).items()})
    arrays = np.load(path)
    names = dict.fromkeys(key.split("/")[0] for key in arrays)
    return {n: Outputs(arrays[f"{n}/entropies"], arrays[f"{n}/predictions"]) for n in names}


class Reference:
    """A fit to some samples, and its entry in fit.json."""

    def __init__(self, samples: Outputs):
        """Fit as a job does."""
        log_expertise = -samples.entropies.astype(np.float64)
        coefficient, mixture = CoefficientConfig(), MixtureConfig(clusters=CLUSTERS)
        self.fit: Fit = fit(lambda: [log_expertise], len(NAMES), coefficient, mixture)
        coefficients, clusters = self._where(samples)
        rows = ScoredRows.of(
            entropy=samples.entropies,
            coefficient=coefficients,
            cluster=clusters,
            expert_prediction=samples.predictions,
        )
        self.entry = FitEntry.of(self.fit, NAMES, rows, count=len(images.CLASSES), classes="")

    def _where(self, samples: Outputs) -> tuple[np.ndarray, np.ndarray]:
        shares = self.fit.coefficients(-samples.entropies.astype(np.float64))
        assert self.fit.mixture is not None
        return shares, self.fit.mixture.predict(shares)

    def drift(self, samples: Outputs, config: DriftConfig) -> DriftReport:
        """Of a batch."""
        coefficient, cluster = self._where(samples)
        rows = ScoredRows.of(
            entropy=samples.entropies,
            coefficient=coefficient,
            cluster=cluster,
            expert_prediction=samples.predictions,
        )
        return drift_of(self.entry, NAMES, rows, config)


def null_trials(
    samples: Outputs, reference: int, n: int, config: DriftConfig
) -> Iterator[DriftReport]:
    """Reports of disjoint random parts of the same samples: exchangeable, so nothing drifts."""
    for trial in range(TRIALS):
        rows = np.random.default_rng([SEED, reference, n, trial]).permutation(len(samples))
        known, new = samples[rows[:reference]], samples[rows[reference : reference + n]]
        yield Reference(known).drift(new, config)


def mixed_trials(
    unshifted: Outputs, shifted: Mapping[str, Outputs], reference: int, config: DriftConfig
) -> Iterator[tuple[str, int, DriftReport]]:
    """Shift, per cent of it in the batch, and report."""
    for trial in range(MIXED_TRIALS):
        rng = np.random.default_rng([SEED, trial])
        rows = rng.permutation(len(unshifted))
        known = Reference(unshifted[rows[:reference]])
        others = unshifted[rows[reference : reference + UNSHIFTED]]
        for shift, samples in shifted.items():
            for percent, count in SHIFTED.items():
                chosen = rng.choice(len(samples), count, replace=False)
                yield shift, percent, known.drift(others.with_those_of(samples[chosen]), config)


def label(statistic: DriftStatistic) -> str:
    """Which statistic it is, in a word or three."""
    parts = (statistic.kind, statistic.quantity, statistic.of)
    return " ".join(part for part in parts if part)


def print_false_alarms(samples: Outputs, splits: Sequence[tuple[int, int]]) -> None:
    """In per cent of the batches; then without the smallest effects, by alpha."""
    config = DriftConfig()
    for reference, n in splits:
        reports = list(null_trials(samples, reference, n, config))
        alarms = np.mean([bool(r.alarms) for r in reports])
        # p times the number of statistics, to be compared with alpha
        least = np.array([min(s.p for s in r.statistics) for r in reports])
        least *= len(reports[0].statistics)
        by_alpha = " ".join(f"{100 * np.mean(least < a):5.2f}" for a in ALPHAS)
        print(f"{reference:6,d} {n:6,d} | {100 * alarms:5.2f} | {by_alpha}", flush=True)


def print_detection(unshifted: Outputs, shifted: Mapping[str, Outputs], reference: int) -> None:
    """In per cent of the batches; then by statistic where a fifth of the batch has a shift."""
    flagged: Counter[tuple[str, int]] = Counter()
    by: Counter[tuple[str, str]] = Counter()
    for shift, percent, report in mixed_trials(unshifted, shifted, reference, DriftConfig()):
        flagged[shift, percent] += bool(report.alarms)
        if percent == SHOWN_PERCENT:
            by.update((shift, label(s)) for s in report.statistics if s.alarm)
    labels = [label(s) for s in report.statistics]
    print(f"reference {reference:,}; {' '.join(f'{p} %' for p in SHIFTED)} | {', '.join(labels)}")
    for shift in shifted:
        rates = " ".join(f"{100 * flagged[shift, p] / MIXED_TRIALS:4.0f}" for p in SHIFTED)
        each = " ".join(f"{100 * by[shift, name] / MIXED_TRIALS:4.0f}" for name in labels)
        print(f"{shift:10s} {rates} | {each}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="where the experts' outputs are kept")
    found = outputs(parser.parse_args().cache)
    warnings.simplefilter("ignore")  # a mixture of few samples may not have converged
    print(DriftConfig())
    print(f"reference, batch | alarms, % | without smallest effects, alpha {ALPHAS}")
    print_false_alarms(found[CLEAN], CLEAN_SPLITS)
    print_false_alarms(found["pool"], POOL_SPLITS)
    print_detection(found[CLEAN], {name: found[name] for name in SHIFTS}, CLEAN_REFERENCE)
    shifted = {name: found[f"pool.{name}"] for name in images.SHIFTS}
    print_detection(found["pool"], shifted, POOL_REFERENCE)


if __name__ == "__main__":
    main()
