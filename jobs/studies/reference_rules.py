"""What both studies of the reference share: suites, rules of coefficients, tables.

For every rule each sample is predicted with its own weights (the exact mode), so that no mixture is
in the way where none is named. Of two experts the models at TENTHS are run once; a sample that both
neighbours of its coefficient get right, or both wrong, counts so without another forward (of
27,734 answers, 6 differed from those of a forward each).
Shapes: N samples, M experts, C classes, G merged models, S seeds, D data sets, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import minimize_scalar

from dawin_ray.method.calibration import TENTHS, right_between
from dawin_ray.method.coefficients import MEDIAN_FLOOR, Offset, coefficients, entropy_growth
from dawin_ray.method.expertise import entropy
from dawin_ray.method.merge import merge
from dawin_ray.method.mixture import MixtureConfig, fit_mixture
from dawin_ray.method.streams import Moments
from dawin_ray.models.experts import load_experts
from dawin_ray.models.spec import CHECKPOINT_HEAD, ExpertConfig, HeadSpec, ModelConfig, ModelSpec

BATCH = 256
STRENGTHS = (0.5, 1.0, 2.0)
FLOORS = (1e-3, 1e-1)  # of the medians, in nats, beside MEDIAN_FLOOR
BATCHES = (16, 64, 256)  # as if the data came in batches of so many
MIXED_BATCH = 64  # of a data set that mixes domains
TRIMMED = (0.1, 0.9)  # quantiles that bound a trimmed mean
LOG_TEMPERATURES = (-3.0, 3.0)
QUANTILES = (0.5, 0.9, 0.99)  # of entropies that could look like training data's
CLUSTERS = MixtureConfig(clusters=3)
RESAMPLES = 4_000
LEVEL = 0.95
MAIN = "pair"  # the group of experts for which everything is tried
ORACLE, DAWIN, ANCHORED = "oracle", "dawin", "reference 1"

Labelled = tuple[np.ndarray, np.ndarray]  # images [N, H, W] uint8 and labels [N]
Right = dict[str, dict[str, np.ndarray]]  # by rule and data set, which samples are right [N]
Tables = dict[str, Any]  # by table: `Right`, and of `looks` arrays by name


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite of data sets and the experts that are tried on it.

    `datasets` begin with the clean one; all but the last are shifts of its images. `groups` name
    experts by checkpoint, MAIN first the zero-shot and then the fine-tuned one. `wrong` are data
    sets that are tried as a reference. Where `reference` is None, the clean test set is it.
    """

    architecture: Path
    datasets: tuple[str, ...]
    make: Callable[[str], Labelled]
    training: Callable[[int], Labelled]  # what the experts of a seed were fine-tuned to
    groups: Mapping[str, tuple[str, ...]]
    wrong: tuple[str, ...]
    reference: Callable[[], Labelled] | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A data set as the experts see it: labels [N], logits [N, M, C].

    `tenths` [N, G]: of two experts, which samples the models at TENTHS get right.
    """

    pixels: torch.Tensor
    labels: np.ndarray
    logits: torch.Tensor
    tenths: np.ndarray | None = None

    def entropies(self, temperatures: Sequence[float] | None = None) -> np.ndarray:
        """Of each sample and expert, nats, float64 [N, M]."""
        experts = self.logits.unbind(dim=1)
        scales = temperatures or [1.0] * len(experts)
        columns = [entropy(x, t) for x, t in zip(experts, scales, strict=True)]
        return torch.stack(columns, dim=1).double().numpy()

    def losses(self, temperature: float = 1.0) -> np.ndarray:
        """Cross-entropies against the labels, nats, float64 [N, M]."""
        log_p = (self.logits / temperature).log_softmax(dim=-1)
        rows = torch.arange(len(self.labels))
        return -log_p[rows, :, torch.from_numpy(self.labels)].double().numpy()


class Pool:
    """A group of one seed's experts, with the exact mode over them."""

    def __init__(self, suite: Suite, folder: Path, names: Sequence[str]) -> None:
        """Load the checkpoints `names` of a folder."""
        found = [ExpertConfig(name=n, checkpoint=str(folder / f"{n}.safetensors")) for n in names]
        config = ModelConfig(architecture=str(suite.architecture))
        self.experts = load_experts(
            ModelSpec(config=config, experts=tuple(found), base=None, heads=(HeadSpec(),))
        )
        cpu = torch.device("cpu")
        self.models = [self.experts.classifier(s, cpu, torch.float32) for s in self.experts.states]
        self.exact = self.experts.samplewise()

    @torch.inference_mode()
    def score(self, images: np.ndarray, labels_N: np.ndarray) -> Scored:
        """What the experts say of a data set."""
        preprocessing = self.experts.preprocessing
        crops = [preprocessing.crop(Image.fromarray(image)) for image in images]
        pixels = preprocessing.normalise(torch.from_numpy(np.stack(crops)))
        logits = [torch.cat([m(part) for part in pixels.split(BATCH)]) for m in self.models]
        right_NG = None
        if len(self.models) == 2:
            answers = [torch.cat([m(part) for part in pixels.split(BATCH)]) for m in self.merged()]
            right_NG = np.stack([x.argmax(dim=-1).numpy() == labels_N for x in answers], axis=1)
        return Scored(
            pixels=pixels,
            labels=labels_N,
            logits=torch.stack(logits, dim=1),
            tenths=right_NG,
        )

    def merged(self) -> Iterator[torch.nn.Module]:
        """The models at TENTHS, of two experts."""
        for share in TENTHS:
            state = merge(self.experts.states, [1 - share, share])
            yield self.experts.classifier(state, torch.device("cpu"), torch.float32)

    @torch.inference_mode()
    def right(self, data: Scored, shares_NM: np.ndarray) -> np.ndarray:
        """Which samples [N] the models of their own coefficients [N, M] get right."""

        def exact(rows_n: np.ndarray, shares_nM: np.ndarray) -> np.ndarray:
            found = [np.zeros(0, dtype=bool)]
            for part in np.split(np.arange(len(rows_n)), range(BATCH, len(rows_n), BATCH)):
                weights, rows = torch.from_numpy(shares_nM[part].astype(np.float32)), rows_n[part]
                logits = self.exact(data.pixels[rows], weights, CHECKPOINT_HEAD)
                found.append(logits.argmax(dim=-1).numpy() == data.labels[rows])
            return np.concatenate(found)

        if data.tenths is None:
            return exact(np.arange(len(shares_NM)), shares_NM)
        return right_between(data.tenths, shares_NM, exact)


def trimmed(h_NM: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the middle 80 %."""
    low, high = np.quantile(h_NM, TRIMMED, axis=axis)
    inside = (h_NM >= low) & (h_NM <= high)
    means: np.ndarray = np.where(inside, h_NM, 0).sum(axis=axis) / inside.sum(axis=axis)
    return means


def growth_of(
    statistic: Callable[..., np.ndarray], h_NM: np.ndarray, reference_NM: np.ndarray, floor: float
) -> np.ndarray:
    """As `entropy_growth`, with another statistic or floor."""
    here, there = (np.maximum(statistic(h, axis=0), floor) for h in (h_NM, reference_NM))
    growth_M: np.ndarray = np.log(here / there)
    return growth_M


def anchored(h_NM: np.ndarray, reference_NM: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Coefficients [N, M] of the rule as dawin_ray has it."""
    here, there = (np.median(h, axis=0) for h in (h_NM, reference_NM))
    return coefficients(-h_NM, growth_M=entropy_growth(here, there, strength))


def by_part(h_NM: np.ndarray, part_N: np.ndarray, reference_NM: np.ndarray) -> np.ndarray:
    """`anchored`, with a growth of each part's own: batches, clusters or domains."""
    shares_NM = np.empty_like(h_NM)
    for part in np.unique(part_N):
        rows = part_N == part
        shares_NM[rows] = anchored(h_NM[rows], reference_NM)
    return shares_NM


def batches(count: int, size: int) -> np.ndarray:
    """Number of the batch of each sample [N]."""
    return np.arange(count) // size


def clusters(shares_NM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each sample [N], and its mean instead of the sample's coefficients [N, M]."""
    mixture = fit_mixture(shares_NM, CLUSTERS)
    cluster_N = mixture.predict(shares_NM)
    return cluster_N, mixture.means[cluster_N]


def temperatures(data: Scored) -> list[float]:
    """Of each expert, calibrated on labelled data by the negative log-likelihood."""
    return [
        float(np.exp(minimize_scalar(
            lambda log_t, m=m: data.losses(np.exp(log_t))[:, m].mean(),
            bounds=LOG_TEMPERATURES, method="bounded",
        ).x))
        for m in range(data.logits.shape[1])
    ]  # fmt: skip


def brief_rules(data: Scored, reference: Scored) -> dict[str, np.ndarray]:
    """Coefficients [N, M] by rule: what is compared for every group of experts."""
    h, there = data.entropies(), reference.entropies()
    return {
        "even": np.full(h.shape, 1 / h.shape[1]),
        DAWIN: coefficients(-h),
        "dawin, offset": coefficients(-h, Offset.from_moments(Moments.of(h))),
        ORACLE: coefficients(-data.losses()),
    } | {f"reference {strength:g}": anchored(h, there, strength) for strength in STRENGTHS}


def variants(
    data: Scored, reference: Scored, training: Scored, wrong: Mapping[str, Scored]
) -> dict[str, np.ndarray]:
    """Coefficients [N, M] of what the rule might have been, and of references that are none."""
    h, there = data.entropies(), reference.entropies()
    found = {}
    for floor in FLOORS:
        growth = growth_of(np.median, h, there, floor)
        found[f"reference, floor {floor:g}"] = coefficients(-h, growth_M=growth)
    for name, statistic in (("mean", np.mean), ("trimmed mean", trimmed)):
        growth = growth_of(statistic, h, there, MEDIAN_FLOOR)
        found[f"reference, {name}"] = coefficients(-h, growth_M=growth)
    for size in BATCHES:
        found[f"reference, batches of {size}"] = by_part(h, batches(len(h), size), there)
    found["dawin, 3 clusters"] = clusters(coefficients(-h))[1]
    found["reference, 3 clusters"] = clusters(anchored(h, there))[1]
    scales = temperatures(reference)
    tempered = data.entropies(scales)
    found["dawin, temperatures"] = coefficients(-tempered)
    found["reference, temperatures"] = anchored(tempered, reference.entropies(scales))
    halves = np.empty_like(h)  # where the clean test set is the reference: never the same images
    for part in (slice(0, None, 2), slice(1, None, 2)):
        halves[part] = anchored(h[part], there[1 - part.start :: 2])
    found["reference, other half"] = halves
    found["reference: training images"] = anchored(h, training.entropies())
    for name, other in wrong.items():
        found[f"reference: {name}"] = anchored(h, other.entropies())
    return found


def mixed(
    pool: Pool, sets: Mapping[str, Scored], reference: Scored, known: Right
) -> dict[str, Right]:
    """Data sets that mix two domains, half of each: by kind, rule and mix, which rows are right.

    `known` are the answers to the whole sets: a rule that looks at samples or domains alone gives
    the same ones in a mix.
    """
    clean, *shifts = sets
    there = reference.entropies()
    found: dict[str, Right] = {"clean half": {}, "shifted half": {}, "two shifts": {}}
    pairs = [(clean, s) for s in shifts] + list(zip(shifts, shifts[1:] + shifts[:1], strict=True))
    for first, second in pairs:
        halves = [np.arange(0, len(sets[first].labels), 2),
                  np.arange(1, len(sets[second].labels), 2)]  # fmt: skip
        rows = list(zip((first, second), halves, strict=True))
        domain_N = np.repeat([0, 1], [len(r) for r in halves])
        order_N = np.random.default_rng(0).permutation(len(domain_N))
        domain_N = domain_N[order_N]
        tenths = [of_two(sets[d])[r] for d, r in rows]
        data = Scored(
            pixels=torch.cat([sets[d].pixels[r] for d, r in rows])[order_N],
            labels=np.concatenate([sets[d].labels[r] for d, r in rows])[order_N],
            logits=torch.cat([sets[d].logits[r] for d, r in rows])[order_N],
            tenths=np.concatenate(tenths)[order_N],
        )
        h = data.entropies()
        cluster_N, _ = clusters(coefficients(-h))
        right = {
            rule: np.concatenate([known[rule][d][r] for d, r in rows])[order_N]
            for rule in (DAWIN, ANCHORED)
        }
        right["reference, by domain"] = right.pop(ANCHORED)
        for rule, shares in {
            "dawin, offset": coefficients(-h, Offset.from_moments(Moments.of(h))),
            "reference, by set": anchored(h, there),
            "reference, by batch": by_part(h, batches(len(h), MIXED_BATCH), there),
            "reference, by cluster": by_part(h, cluster_N, there),
        }.items():
            right[rule] = pool.right(data, shares)
        for rule, right_N in right.items():
            if first == clean:
                found["clean half"].setdefault(rule, {})[second] = right_N[domain_N == 0]
                found["shifted half"].setdefault(rule, {})[second] = right_N[domain_N == 1]
            else:
                found["two shifts"].setdefault(rule, {})[f"{first}, {second}"] = right_N
    return found


def of_two(data: Scored) -> np.ndarray:
    """The tenths of a data set that two experts scored."""
    assert data.tenths is not None
    return data.tenths


def looks(reference: Scored, training: Scored) -> dict[str, np.ndarray]:
    """What could tell a reference of training images from one that was held out.

    By name a pair, held out and training images: figures of the fine-tuned (last) expert's
    entropies in nats, or logs of their ratio to the zero-shot (first) expert's.
    """
    h = [data.entropies() for data in (reference, training)]
    found = {
        f"{quantile:g} quantile": [np.quantile(x[:, -1], quantile) for x in h]
        for quantile in QUANTILES
    }
    found["mean"] = [x[:, -1].mean() for x in h]
    found["share below floor"] = [(x[:, -1] < MEDIAN_FLOOR).mean() for x in h]
    found["log ratio of medians"] = [np.log(np.divide(*np.median(x[:, ::-1], axis=0))) for x in h]
    found["log ratio of means"] = [np.log(np.divide(*x[:, ::-1].mean(axis=0))) for x in h]
    return {name: np.array(pair) for name, pair in found.items()}


def study(suite: Suite, folder: Path) -> Tables:
    """All tables of the seed whose experts are in a folder that has the seed's number as name."""
    tables: Tables = {}
    for group, names in suite.groups.items():
        pool = Pool(suite, folder, names)
        sets = {name: pool.score(*suite.make(name)) for name in suite.datasets}
        clean = suite.datasets[0]
        reference = sets[clean] if suite.reference is None else pool.score(*suite.reference())
        right: Right = {
            expert: {
                name: data.logits[:, m].argmax(dim=-1).numpy() == data.labels
                for name, data in sets.items()
            }
            for m, expert in enumerate(names)
        }
        main = group == MAIN
        if main:
            training = pool.score(*suite.training(int(folder.name)))
            wrong = {name: sets[name] for name in suite.wrong}
            tables["looks"] = looks(reference, training)
        for name, data in sets.items():
            found = brief_rules(data, reference)
            if len(names) > 2:  # every rule is a forward of its own there, as wide as the experts
                found = {rule: found[rule] for rule in ("even", DAWIN, "dawin, offset", ANCHORED)}
            if main:
                found |= variants(data, reference, training, wrong)
            for rule, shares in found.items():
                right.setdefault(rule, {})[name] = pool.right(data, shares)
        tables[group] = right
        if main:
            tables |= mixed(pool, sets, reference, right)
    return tables


def interval(
    ours: Sequence[Mapping[str, np.ndarray]],
    theirs: Sequence[Mapping[str, np.ndarray]],
    apart: str | None,
) -> tuple[float, float, float]:
    """Difference of mean accuracies over data sets, with bootstrap limits over seeds and images.

    `ours` and `theirs` are, by seed, which samples of each data set are right. Seeds are resampled,
    and images: once for all seeds and all shifts of the same images, for the data set `apart` (of
    images of its own) apart. Five seeds are few: the limits are then rather too narrow.
    """
    draw = np.random.default_rng(0)
    count = len(ours)
    seeds_RS = draw.multinomial(count, [1 / count] * count, size=RESAMPLES) / count
    names = list(ours[0])
    drawn: dict[tuple[bool, int], np.ndarray] = {}
    value, totals_R = 0.0, np.zeros(RESAMPLES)
    for name in names:
        d_SN = np.stack(
            [a[name].astype(float) - b[name] for a, b in zip(ours, theirs, strict=True)]
        )
        n = d_SN.shape[1]
        key = (name == apart, n)
        if key not in drawn:
            drawn[key] = draw.multinomial(n, [1 / n] * n, size=RESAMPLES) / n
        value += d_SN.mean() / len(names)
        totals_R += ((seeds_RS @ d_SN) * drawn[key]).sum(axis=1) / len(names)
    low, high = np.quantile(totals_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, low, high


def print_table(title: str, tables: Sequence[Right], clean: str | None, apart: str | None) -> None:
    """Rules down; by seed the mean over shifts, their mean, clean, difference to DaWin, worst set.

    The worst set is the one with the lowest difference to DaWin, mean over the seeds.
    """
    print(f"\n{title}: shifts by seed | mean | clean | to DaWin | worst set")
    for rule in tables[0]:
        means_D = {
            name: np.mean([t[rule][name].mean() - t[DAWIN][name].mean() for t in tables])
            for name in tables[0][rule]
        }
        shifts = [name for name in means_D if name != clean]
        by_seed = [100 * np.mean([t[rule][name].mean() for name in shifts]) for t in tables]
        at_clean = f"{100 * np.mean([t[rule][clean].mean() for t in tables]):.1f}" if clean else "-"
        ours, theirs = ([{name: t[r][name] for name in shifts} for t in tables]
                        for r in (rule, DAWIN))  # fmt: skip
        value, low, high = (100 * x for x in interval(ours, theirs, apart))
        worst = min(means_D, key=lambda name: means_D[name])
        print(
            f"{rule:27s} {' '.join(f'{x:.1f}' for x in by_seed)} | {np.mean(by_seed):.1f} | "
            f"{at_clean} | {value:+.1f} [{low:+.1f}, {high:+.1f}] | "
            f"{worst} {100 * means_D[worst]:+.1f}"
        )


def print_study(suite: Suite, seeds: Sequence[Tables]) -> None:
    """All tables of a suite."""
    clean, apart = suite.datasets[0], suite.datasets[-1]
    for group in suite.groups:
        print_table(group, [s[group] for s in seeds], clean, apart)
    for kind in ("clean half", "shifted half", "two shifts"):
        print_table(f"mixed, {kind}", [s[kind] for s in seeds], None, None)
    print("\nreference held out | of training images, by seed")
    for name in seeds[0]["looks"]:
        held, trained = (" ".join(f"{s['looks'][name][i]:.3f}" for s in seeds) for i in (0, 1))
        print(f"{name:24s} {held} | {trained}")
