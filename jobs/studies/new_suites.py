"""Which rule does best on suites that are neither digits nor letters, with and without labels?

    python jobs/studies/train_suites.py --packages PACKAGES --out suites
    python jobs/studies/new_suites.py --packages PACKAGES suites

PACKAGES is the folder of the npm packages that emoji.py names, unpacked. Suites, rules, numbers and
what would follow from which result are in new_suites.json, which was committed before any rule was
run. The answer, with its tables, is in README.md beside this file.

Shapes: N samples, R draws of labels, S seeds, D shifts, B resamples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from suite_rules import (
    DAWIN,
    Scored,
    by_draw,
    drawn,
    guard_holds,
    scored,
    tuned,
    with_labels,
    without_labels,
)
from suites import ARCHITECTURES, PROTOCOL, demo_suite, suite_of

from dawin_ray.statistics import Estimates, estimates_of
from dawin_ray.statistics.estimates import FINE, fine_bins

LEVEL = 0.95
LOST = 0.5  # points
LEAST_SHIFTS, LEAST_CLEAN = -0.2, -0.5  # points: what loses nowhere
MARGIN = 0.2  # points by which another penalty or level has to be better
CALIBRATE, SINGLE, WEIGHT = "calibrate", "best single", "best weight"
PENALTIES, LEVELS = (0.0, 0.5, 1.0, 2.0), (0.0, 0.5, 0.8, 0.95)
TUNED_LABELS = (50, 100)
METHODS = {"zero_shot": 0, "fine_tuned": -1}  # their places among the merged models


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One pair's answers: by data set and rule (and number of labels) right [R, N] or [N]."""

    sets: Mapping[str, Scored]
    guarded: bool
    right: Mapping[str, Mapping[str, np.ndarray]]
    outside: np.ndarray  # bool [R, N]: samples whose labels are not known


@dataclass(frozen=True, kw_only=True)
class Row:
    """A rule in a cell, in points: accuracies, and differences to DaWin."""

    clean: float
    shifts: float
    gain: float
    low: float
    high: float
    on_clean: float
    lost: int
    worst: str
    risk: float  # share of single calibrations (seed, draw, set) that lose more than LOST

    @property
    def loses_nowhere(self) -> bool:
        """As the protocol has it, of this cell."""
        return self.low >= LEAST_SHIFTS and self.on_clean >= LEAST_CLEAN


def studied(sets: Mapping[str, Scored], seed: int) -> Seed:
    """All rules on one pair's answers."""
    reference = sets["reference"]
    tests = {name: data for name, data in sets.items() if name != "reference"}
    count = min(len(data.labels) for data in tests.values())
    tests = {name: _first(data, count) for name, data in tests.items()}
    draws = drawn(count, seed)
    right = {name: dict(without_labels(data, reference)) for name, data in tests.items()}
    for n in PROTOCOL["labels"]:
        for name, rules in by_draw(tests, draws, n, with_labels).items():
            right[name] |= {f"{rule} {n}": of_rule for rule, of_rule in rules.items()}
    for n in TUNED_LABELS:
        found = by_draw(tests, draws, n, lambda s, rows: tuned(s, rows, PENALTIES, LEVELS))
        for name, rules in found.items():
            right[name] |= {f"{rule}, {n} labels": of_rule for rule, of_rule in rules.items()}
    outside = np.ones((len(draws), count), dtype=bool)
    for r, rows in enumerate(draws):
        outside[r, rows] = False
    return Seed(sets=tests, guarded=guard_holds(reference), right=right, outside=outside)


def _first(data: Scored, count: int) -> Scored:
    """The first samples of a data set: the demo's printed digits are three more than the others."""
    return Scored(
        labels=data.labels[:count],
        logits=data.logits[:count],
        answers=data.answers[:count],
        confidences=data.confidences[:count],
        entropies=data.entropies[:count],
    )


def row_of(seeds: Sequence[Seed], rule: str) -> Row:
    """A rule in a cell."""
    clean, *shifts = seeds[0].sets
    # means over the samples outside each draw, by seed, draw and data set
    shares = {
        r: {
            name: np.stack([_outside(s, s.right[name][r]) for s in seeds]) for name in seeds[0].sets
        }
        for r in {rule, DAWIN}
    }
    gains = {name: 100 * (shares[rule][name] - shares[DAWIN][name]) for name in shares[rule]}
    means = {name: float(of_set.mean()) for name, of_set in gains.items()}
    # of the many other penalties and levels no interval is printed
    low, high = (np.nan, np.nan) if rule.endswith(" labels") else interval(seeds, rule, shifts)
    worst = min(means, key=lambda name: means[name])
    return Row(
        clean=100 * float(shares[rule][clean].mean()),
        shifts=100 * float(np.mean([shares[rule][name].mean() for name in shifts])),
        gain=float(np.mean([means[name] for name in shifts])),
        low=low,
        high=high,
        on_clean=means[clean],
        lost=sum(mean < -LOST for mean in means.values()),
        worst=f"{worst} {means[worst]:+.1f}",
        risk=100 * float(np.mean([of_set < -LOST for of_set in gains.values()])),
    )


def _outside(seed: Seed, right: np.ndarray) -> np.ndarray:
    """Accuracy [R] of each draw on the samples outside it."""
    found: np.ndarray = (right * seed.outside).sum(axis=1) / seed.outside.sum(axis=1)
    return found


def interval(seeds: Sequence[Seed], rule: str, shifts: Sequence[str]) -> tuple[float, float]:
    """Of the mean difference to DaWin over the shifts, in points; see the protocol."""
    draw = np.random.default_rng(0)
    resamples, count = PROTOCOL["resamples"], seeds[0].outside.shape[1]
    n_BN = draw.multinomial(count, [1 / count] * count, size=resamples)
    s_BS = draw.multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=resamples)
    total_B = np.zeros(resamples)
    for s, seed in enumerate(seeds):
        d_RN = (
            np.mean([seed.right[n][rule] * 1.0 - seed.right[n][DAWIN] for n in shifts], axis=0)
            * seed.outside
        )
        mean_BR = (n_BN @ d_RN.T) / (n_BN @ seed.outside.T)
        rounds = len(seed.outside)
        r_BR = draw.multinomial(rounds, [1 / rounds] * rounds, size=resamples) / rounds
        total_B += s_BS[:, s] / len(seeds) * (r_BR * mean_BR).sum(axis=1)
    low, high = 100 * np.quantile(total_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimates(seed: Seed) -> Estimates:
    """Accuracy without labels, each data set from the labels of the others."""
    counts = {}
    for name, data in seed.sets.items():
        rows = []
        for method in (*METHODS, DAWIN):
            confidence, right = answers_of(data, method)
            bins = fine_bins(confidence)
            n_B, right_B = (np.bincount(bins, w, FINE) for w in (np.ones(len(bins)), right))
            rows.append((n_B, right_B, np.zeros(FINE)))
        counts[name] = np.stack(rows, axis=1)
    found = estimates_of(counts, (*METHODS, DAWIN))
    assert found is not None, "all sets are labelled"
    return found


def answers_of(data: Scored, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Confidences [N] of a method's answers, and which are right."""
    rows = np.arange(len(data.labels))
    place = data.places_of_dawin() if method == DAWIN else METHODS[method]
    return data.confidences[rows, place], data.answers[rows, place] == data.labels


def cells(packages: Path, folder: Path) -> Iterator[tuple[str, list[Seed]]]:
    """Each suite and architecture with its seeds; the demo's suite last."""
    for name in PROTOCOL["suites"]:
        suite = suite_of(name, packages)
        for kind, config in ARCHITECTURES.items():
            seeds = []
            for seed in PROTOCOL["seeds"]:
                of = folder / f"{name}-{kind}" / str(seed)
                seeds.append(studied(scored(suite, config, of, of / "scored"), seed))
            yield f"{name}, {kind}", seeds
    suite, config, of = demo_suite()
    yield "digits (the demo's)", [studied(scored(suite, config, of, folder / "demo"), 0)]


def print_cell(cell: str, seeds: Sequence[Seed]) -> dict[str, Row]:
    """A cell's tables; its rows by rule."""
    clean, *shifts = seeds[0].sets
    print(f"\n{cell}: accuracy of each set, mean over seeds, in per cent")
    print(f"{'':20s}" + " ".join(f"{name[:9]:>9s}" for name in (clean, *shifts)))
    for rule in ("zero_shot", "fine_tuned", "even", DAWIN):
        accuracies = [
            100 * np.mean([s.right[n][rule].mean() for s in seeds]) for n in seeds[0].sets
        ]
        print(f"{rule:20s}" + " ".join(f"{a:9.1f}" for a in accuracies))
    held = " ".join("yes" if s.guarded else "no" for s in seeds)
    print(f"anchored by the guarded reference, by seed: {held}")
    print(f"\n{'rule':31s} clean shifts | to DaWin over the shifts | clean | lost | worst set")
    rows = {rule: row_of(seeds, rule) for rule in seeds[0].right[clean]}
    for rule, row in rows.items():
        if rule.endswith(" labels"):
            continue
        risk = f"; {row.risk:.0f} % of single ones" if rule.split()[-1].isdigit() else ""
        print(
            f"{rule:31s} {row.clean:5.1f} {row.shifts:5.1f} | {row.gain:+5.1f} "
            f"[{row.low:+.1f}, {row.high:+.1f}] | {row.on_clean:+5.1f} | "
            f"{row.lost:2d} of {len(seeds[0].sets)}{risk} | {row.worst}"
        )
    return rows


def print_tuned(tables: Mapping[str, Mapping[str, Row]]) -> None:
    """Other penalties and levels: points to DaWin over the shifts and on clean, by cell.

    And the share of single calibrations of a set that lose more than LOST.
    """
    print(
        "\npenalty and level: points to DaWin over the shifts (clean; single ones that lost, in %)"
    )
    print("by cell | mean of the new ones")
    for rule in (rule for rule in next(iter(tables.values())) if rule.endswith(" labels")):
        found = [table[rule] for table in tables.values()]
        mean = np.mean([row.gain for row in found[:-1]])
        each = "  ".join(f"{r.gain:+.2f} ({r.on_clean:+.1f}; {r.risk:2.0f})" for r in found)
        print(f"{rule:38s} {each} | {mean:+.2f}")


def print_decision(tables: Mapping[str, Mapping[str, Row]]) -> None:
    """What the protocol says follows from the tables of the new suites."""
    print("\nover the new suites' cells: mean gain | lower limit above 0 in | loses nowhere")
    for rule in next(iter(tables.values())):
        if not rule.endswith(" labels"):
            found = [table[rule] for table in tables.values()]
            nowhere = "yes" if all(row.loses_nowhere for row in found) else "no"
            print(
                f"{rule:31s} {np.mean([row.gain for row in found]):+5.2f} (clean "
                f"{np.mean([row.on_clean for row in found]):+.2f}) | "
                f"{sum(row.low > 0 for row in found)} of {len(found)} | {nowhere}"
            )


def print_estimates(cell: str, seeds: Sequence[Seed]) -> None:
    """Mean absolute errors of accuracies without labels."""
    found = [estimates(seed) for seed in seeds]
    errors = " ".join(
        f"{method} {100 * np.mean([f.mean_error[method] for f in found]):.1f}"
        for method in found[0].mean_error
    )
    outside = [
        not e.low <= (e.true or 0) <= e.high for f in found for d in f.datasets.values()
        for e in [d[DAWIN]]
    ]  # fmt: skip
    kinds = ", ".join(f.estimator for f in found)
    print(f"{cell:22s} {errors} | DaWin outside its interval {sum(outside)} of {len(outside)} | "
          f"{kinds}")  # fmt: skip


def main() -> None:
    """Score all pairs, or take what was scored, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="unpacked packages of emoji")
    parser.add_argument("folder", type=Path, help="what train_suites.py wrote")
    asked = parser.parse_args()
    tables, kept = {}, {}
    for cell, seeds in cells(asked.packages, asked.folder):
        tables[cell] = print_cell(cell, seeds)
        kept[cell] = seeds
    print_tuned(tables)
    print_decision(dict(list(tables.items())[:-1]))
    print("\naccuracy without labels: mean absolute error in points, mean over seeds")
    for cell, seeds in kept.items():
        print_estimates(cell, seeds)


if __name__ == "__main__":
    main()
