"""The order of classes that suits answers best, and whether it is another one than the labels'.

An order that is chosen by the same samples that it is judged by always gains, with few samples a
class a lot. So it is found on one half and judged on the other, both ways.

C classes, k samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # which imports scipy.optimize when something of it is first used

from dawin_ray.report import doubts

# Classes that are matched, the most frequent ones: a matrix of so many takes 134 MB.
MOST_CLASSES = 4096

PREFERRED = 0.25  # of a sample: where samples do not tell, a class keeps its place


@dataclass(frozen=True, kw_only=True)
class Order:
    """Accuracies of answers as they are and in the best order, and what that order moves.

    `pairs`: a label and the class that its samples are called, where half of them are or more.
    """

    plain: float
    best: float  # in the best order, found on other samples
    kappa: float  # in that order: 0 of answers that know nothing of the image
    pairs: tuple[tuple[int, int], ...]
    cycle: bool  # each of some classes is called by the next one's name

    @property
    def is_moved(self) -> bool:
        """Whether the labels' order looks like another one."""
        gains = self.best - self.plain >= doubts.PERMUTED_GAIN and len(self.pairs) > 1
        return gains or self.cycle


def order_of(label_k: np.ndarray, answer_k: np.ndarray, classes: int) -> Order:
    """Of labels and answers int64 [k], in no order that depends on either."""
    plain = float((label_k == answer_k).mean())
    cycle = _cycles(label_k, answer_k, classes)
    if plain > 1 - doubts.PERMUTED_GAIN:  # nothing could bring as much
        return Order(plain=plain, best=plain, kappa=1.0, pairs=cycle, cycle=bool(cycle))
    half_k = np.arange(len(label_k)) % 2 == 0
    right, chance = 0, 0.0
    for learnt in (half_k, ~half_k):
        to = _best(label_k[learnt], answer_k[learnt], classes)
        expected, said = to[label_k[~learnt]], answer_k[~learnt]
        right += int((expected == said).sum())
        shares = (np.bincount(a, minlength=classes) / max(len(a), 1) for a in (expected, said))
        chance += float(np.prod(list(shares), axis=0).sum()) / 2
    best = right / len(label_k)
    kappa = (best - chance) / (1 - chance) if chance < 1 else 0.0
    to = _best(label_k, answer_k, classes)
    n_C, own_C, mass_C = (
        np.bincount(label_k[chosen], minlength=classes)
        for chosen in (slice(None), answer_k == label_k, answer_k == to[label_k])
    )
    moved_C = (to != np.arange(classes)) & (mass_C > own_C) & (2 * mass_C >= n_C)
    moved = tuple((c, int(to[c])) for c in np.flatnonzero(moved_C).tolist())
    return Order(plain=plain, best=best, kappa=kappa, pairs=moved or cycle, cycle=bool(cycle))


def shift_of(order: Order) -> int:
    """What would have to be added to nearly all moved labels, 1 or -1; 0 where it is neither."""
    if len(order.pairs) < 3:
        return 0
    for step in (1, -1):
        hits = sum(answer - label == step for label, answer in order.pairs)
        if hits >= len(order.pairs) - 1:  # the one at the end has nowhere to go, or goes round
            return step
    return 0


def _best(label_k: np.ndarray, answer_k: np.ndarray, classes: int) -> np.ndarray:
    """The answer for each class that brings most right, one to one, int64 [C]."""
    seen = np.bincount(label_k, minlength=classes) + np.bincount(answer_k, minlength=classes)
    chosen = np.sort(np.argsort(-seen, kind="stable")[:MOST_CLASSES])
    place = np.full(classes, -1)
    place[chosen] = np.arange(len(chosen))
    rows, columns = place[label_k], place[answer_k]
    known = (rows >= 0) & (columns >= 0)
    gain = PREFERRED * np.eye(len(chosen))
    np.add.at(gain, (rows[known], columns[known]), 1)
    found = np.arange(classes)
    at, to = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    found[chosen[at]] = chosen[to]
    return found


def _cycles(label_k: np.ndarray, answer_k: np.ndarray, classes: int) -> tuple[tuple[int, int], ...]:
    """Classes that are called by each other's names in a circle, by MOVED_SHARE of each."""
    pair, count = np.unique(label_k * classes + answer_k, return_counts=True)
    order = np.argsort(count, kind="stable")
    called_C, mass_C = np.arange(classes), np.zeros(classes, dtype=np.int64)
    called_C[pair[order] // classes] = pair[order] % classes  # the most frequent one comes last
    mass_C[pair[order] // classes] = count[order]
    n_C = np.bincount(label_k, minlength=classes)
    moved_C = (n_C >= doubts.MOVED_ROWS) & (mass_C >= doubts.MOVED_SHARE * n_C)
    moved_C &= called_C != np.arange(classes)
    found: set[tuple[int, int]] = set()
    for start in np.flatnonzero(moved_C).tolist():
        way, at = [], start
        while moved_C[at] and at not in way:
            way.append(at)
            at = int(called_C[at])
        if at == start:
            found.update((c, int(called_C[c])) for c in way)
    return tuple(sorted(found))
