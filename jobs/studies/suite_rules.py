"""What new_suites.py compares: two experts' answers to a data set, and rules of coefficients.

Shapes: N samples, n labelled ones, M experts (two), C classes, G merged models, R draws of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from suites import PROTOCOL, Suite

from dawin_ray.job.calibrate import Answers, Decided, applied, decide
from dawin_ray.method import PENALTY, merge, tempered
from dawin_ray.method.coefficients import MEDIAN_FLOOR, Offset, coefficients, entropy_growth
from dawin_ray.method.expertise import entropy
from dawin_ray.method.streams import Moments
from dawin_ray.models import ExpertConfig, HeadSpec, ModelConfig, ModelSpec, load_experts

BATCH = 256
MODELS: int = PROTOCOL["models"]
ZERO_SHOT, EVEN, FINE_TUNED = 0, MODELS // 2, MODELS - 1  # their places among the merged models
SINGLES = (EVEN, FINE_TUNED, ZERO_SHOT)  # the first of equals is taken
OWN = (1.0, 1.0)  # temperatures of the experts
GUARD = 16.0  # ratio of the floored reference medians
PATH_GROWTH = (0.0, 0.5, 1.0)  # g of the path's nodes
PATH_MEAN, PATH_OWN, PATH_FLOOR, PATH_POWER = 0.7, 0.3, 0.02, -3.0
DAWIN = "dawin"

Rights = dict[str, np.ndarray]  # by rule which samples are right: [N], or [R, N] by draw


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What experts and merged models say of a data set."""

    labels: np.ndarray  # int64 [N]
    logits: np.ndarray  # of the experts, float32 [N, M, C]
    answers: np.ndarray  # of the merged models, int64 [N, G]
    confidences: np.ndarray  # float32 [N, G]
    entropies: np.ndarray  # of zero-shot, even-merged and fine-tuned, nats, float64 [N, 3]

    def experts(self) -> np.ndarray:
        """Entropies [N, M] of the experts."""
        return self.entropies[:, [0, 2]]

    def right(self, shares_N: np.ndarray) -> np.ndarray:
        """Which samples [N] the models nearest to these weights of the fine-tuned one get right."""
        place_N = nearest(shares_N)
        found: np.ndarray = self.answers[np.arange(len(place_N)), place_N] == self.labels
        return found

    def places_of_dawin(self) -> np.ndarray:
        """The place [N] of the merged model by which DaWin answers."""
        return nearest(coefficients(-self.experts())[:, 1])

    def asked(self, rows_n: np.ndarray) -> Answers:
        """Its labelled rows, as `calibrate` takes them."""
        right_nG = self.answers[rows_n] == self.labels[rows_n, None]
        count = np.arange(len(rows_n))
        return Answers(
            labels=self.labels[rows_n],
            logits=self.logits[rows_n],
            right=lambda shares_nM: right_nG[count, nearest(shares_nM[:, 1])],
        )

    def save(self, path: Path) -> None:
        """As a file of arrays."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Scored:
        """What `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)


def nearest(shares_N: np.ndarray) -> np.ndarray:
    """The place [N] of the merged model that is nearest to a weight."""
    found: np.ndarray = np.rint(shares_N * (MODELS - 1)).astype(int)
    return found


class Pair:
    """A zero-shot expert, its descendant, and what is merged of them."""

    def __init__(self, architecture: Path, folder: Path) -> None:
        """Load both checkpoints of a folder."""
        experts = tuple(
            ExpertConfig(name=name, checkpoint=str(folder / f"{name}.safetensors"))
            for name in ("zero_shot", "fine_tuned")
        )
        config = ModelConfig(architecture=str(architecture))
        self.experts = load_experts(
            ModelSpec(config=config, experts=experts, base=None, heads=(HeadSpec(),))
        )

    def models(self) -> Iterator[torch.nn.Module]:
        """The merged models, the zero-shot expert first."""
        for share in np.linspace(0, 1, MODELS):
            state = merge(self.experts.states, [1 - share, share])
            yield self.experts.classifier(state, torch.device("cpu"), torch.float32)

    @torch.inference_mode()
    def score(self, images: np.ndarray, labels_N: np.ndarray) -> Scored:
        """What they say of images [N, 32, 32] or [N, 32, 32, 3] uint8."""
        preprocessing = self.experts.preprocessing
        crops = [preprocessing.crop(Image.fromarray(image)) for image in images]
        pixels = preprocessing.normalise(torch.from_numpy(np.stack(crops)))
        answers, confidences, kept = [], [], {}
        for place, model in enumerate(self.models()):
            logits = torch.cat([model(part) for part in pixels.split(BATCH)])
            top = logits.softmax(dim=-1).max(dim=-1)
            answers.append(top.indices.numpy())
            confidences.append(top.values.numpy())
            if place in SINGLES:
                kept[place] = logits
        return Scored(
            labels=labels_N,
            logits=torch.stack([kept[ZERO_SHOT], kept[FINE_TUNED]], dim=1).numpy(),
            answers=np.stack(answers, axis=1),
            confidences=np.stack(confidences, axis=1),
            entropies=np.stack(
                [entropy(kept[p]).double().numpy() for p in (ZERO_SHOT, EVEN, FINE_TUNED)], axis=1
            ),
        )


def scored(suite: Suite, architecture: Path, folder: Path, cache: Path) -> dict[str, Scored]:
    """All data sets of a suite and, as `reference`, the reference; kept in a folder."""
    cache.mkdir(parents=True, exist_ok=True)
    names = [*suite.datasets, "reference"]
    if not all((cache / f"{name}.npz").exists() for name in names):
        pair = Pair(architecture, folder)
        for name in names:
            if name == "reference":
                images = suite.reference()
                labels_N = np.zeros(len(images), dtype=np.int64)  # which no rule looks at
            else:
                images, labels_N = suite.test_set(name)
            pair.score(images, labels_N).save(cache / f"{name}.npz")
    return {name: Scored.load(cache / f"{name}.npz") for name in names}


def path_rule(entropies_N3: np.ndarray) -> np.ndarray:
    """Weights [N] of the fine-tuned expert along the path of three models."""
    s_N3 = PATH_MEAN * entropies_N3.mean(axis=0) + PATH_OWN * entropies_N3 + PATH_FLOOR
    w_N3 = np.exp(-np.array(PATH_GROWTH)) * s_N3**PATH_POWER
    w_N3 /= w_N3.sum(axis=1, keepdims=True)
    found: np.ndarray = w_N3[:, 1] / 2 + w_N3[:, 2]
    return found


def guard_holds(reference: Scored) -> bool:
    """Whether the experts' floored medians on the reference are near enough to each other."""
    medians = np.maximum(np.median(reference.experts(), axis=0), MEDIAN_FLOOR)
    return bool(medians.max() / medians.min() <= GUARD)


def without_labels(data: Scored, reference: Scored) -> Rights:
    """Which samples [N] of a data set each rule without labels gets right."""
    h, there = data.experts(), reference.experts()
    growth = entropy_growth(np.median(h, axis=0), np.median(there, axis=0))
    plain, anchored = coefficients(-h), coefficients(-h, growth_M=growth)
    shares = {
        "zero_shot": np.zeros(len(h)),
        "fine_tuned": np.ones(len(h)),
        "even": np.full(len(h), 0.5),
        DAWIN: plain[:, 1],
        "offset adjustment": coefficients(-h, Offset.from_moments(Moments.of(h)))[:, 1],
        "reference": anchored[:, 1],
        "guarded reference": (anchored if guard_holds(reference) else plain)[:, 1],
        "path": path_rule(data.entropies),
    }
    return {rule: data.right(of_rule) for rule, of_rule in shares.items()}


def drawn(count: int, seed: int) -> list[np.ndarray]:
    """Of each draw the samples whose labels are known, in the order in which they come to be."""
    most = max(PROTOCOL["labels"])
    rngs = (np.random.default_rng([seed, r]) for r in range(PROTOCOL["draws"]))
    return [rng.permutation(count)[:most] for rng in rngs]


def with_labels(sets: Mapping[str, Scored], rows_n: np.ndarray) -> dict[str, Rights]:
    """By data set, which samples [N] each rule gets right that looks at labels of these rows."""
    asked = {name: data.asked(rows_n) for name, data in sets.items()}
    tempers = decide(asked, OWN)
    plain = Decided(
        temperatures=OWN,
        kept=(True, True),
        tempered=tempers.tempered,
        log_odds={name: of_set.log_odds(OWN) for name, of_set in asked.items()},
    )
    found: dict[str, Rights] = {}
    for name, data in sets.items():
        right_G = (data.answers[rows_n] == data.labels[rows_n, None]).sum(axis=0)
        best = np.flatnonzero(right_G == right_G.max())
        single = max(SINGLES, key=lambda place: right_G[place])  # the first of equals
        weight = best[np.abs(best - EVEN).argmin()]
        found[name] = {
            "calibrate": calibrated(data, tempers, name),
            "calibrate, no temperatures": calibrated(data, plain, name),
            "best single": data.answers[:, single] == data.labels,
            "best weight": data.answers[:, weight] == data.labels,
        }
    return found


def calibrated(data: Scored, decided: Decided, name: str) -> np.ndarray:
    """Which samples [N] are right with the temperatures and log odds of a calibration."""
    log_odds, _ = applied(decided.log_odds[name])
    return shifted(data, decided.temperatures, log_odds)


def shifted(data: Scored, temperatures: Sequence[float], log_odds: Sequence[float]) -> np.ndarray:
    """Which samples [N] DaWin gets right with these."""
    h = tempered(data.logits, temperatures)[0]
    return data.right(coefficients(np.array(log_odds) - h)[:, 1])


def tuned(
    sets: Mapping[str, Scored],
    rows_n: np.ndarray,
    penalties: Sequence[float],
    levels: Sequence[float],
) -> dict[str, Rights]:
    """As `with_labels`: calibrate with other penalties, and with other levels of its intervals.

    The level None always applies the log odds. Temperatures are decided at the level that it has.
    """
    asked = {name: data.asked(rows_n) for name, data in sets.items()}
    temperatures = decide(asked, OWN).temperatures
    found: dict[str, Rights] = {}
    for name, data in sets.items():
        at = {p: asked[name].log_odds(temperatures, p) for p in {*penalties, PENALTY}}
        choices: dict[str, Sequence[float]] = {
            f"penalty {p:g}": applied(at[p])[0] for p in penalties
        }
        choices |= {f"level {level:g}": applied(at[PENALTY], level)[0] for level in levels}
        choices["always applied"] = at[PENALTY].values.tolist()
        found[name] = {
            rule: shifted(data, temperatures, log_odds) for rule, log_odds in choices.items()
        }
        # Not in the protocol: added when its tables had been seen.
        plain = asked[name].log_odds(OWN)
        found[name] |= {
            "level 0.5, no temperatures": shifted(data, OWN, applied(plain, 0.5)[0]),
            "always, no temperatures": shifted(data, OWN, plain.values.tolist()),
        }
    return found


Ruled = Callable[[Mapping[str, Scored], np.ndarray], dict[str, Rights]]


def by_draw(
    sets: Mapping[str, Scored], draws: Sequence[np.ndarray], n: int, rules: Ruled
) -> dict[str, Rights]:
    """By data set and rule of labels, which samples are right, for each draw's first n: [R, N]."""
    each = [rules(sets, rows[:n]) for rows in draws]
    return {
        name: {rule: np.stack([one[name][rule] for one in each]) for rule in each[0][name]}
        for name in sets
    }
