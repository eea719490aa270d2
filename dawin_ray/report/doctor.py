"""The doctor: does what a run scored look like what it was told it is? `doubts` has the thresholds.

All is made of summaries, so that it costs the same of any number of rows; no model is asked.

Shapes: M experts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.method import DAWIN
from dawin_ray.report import doubts
from dawin_ray.report.doubts import KINDS, Doubt
from dawin_ray.report.orders import Order, shift_of
from dawin_ray.report.patient import Patient
from dawin_ray.statistics import Sketch

UNCOUNTED = (
    "Copies with different labels and crops of one colour are not judged: the rows are of a "
    "version that did not keep what tells them."
)

SHOWN_PAIRS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What is known of a data set once it was looked at, without its summary."""

    dataset: str
    experts: tuple[str, ...]
    own: str | None
    doubts: tuple[Doubt, ...]
    counted: bool  # whether its crops are known
    accuracies: np.ndarray  # of the experts [M], and their kappas; empty without labels enough
    kappas: np.ndarray
    same: frozenset[tuple[int, int]] | None  # experts that are one; None of too few rows


def examine(patient: Patient) -> Findings:
    """Look at one data set."""
    summary, judged = patient.summary, patient.judged
    enough = summary.rows >= doubts.MIN_ROWS
    found = (*_of_answers(patient), *_of_crops(patient), *_of_entropies(patient)) if enough else ()
    experts = range(len(patient.experts))
    return Findings(
        dataset=patient.dataset,
        experts=patient.experts,
        own=patient.own,
        doubts=found,
        counted=summary.crops.known == summary.rows,
        accuracies=np.array([patient.accuracy(i) for i in experts] if judged else []),
        kappas=patient.kappas if judged else np.zeros(0),
        same=frozenset((j, i) for i in experts for j in range(i) if _equal(patient, j, i))
        if enough
        else None,
    )


def doubts_of(examined: Sequence[Findings]) -> tuple[Doubt, ...]:
    """All that looks wrong, by data set, and behind it what is an expert's on all of them."""
    found = [doubt for of_set in examined for doubt in of_set.doubts]
    return (*found, *_of_experts(examined))


def unjudged(examined: Iterable[Findings]) -> str:
    """What cannot be said of rows of an earlier version; empty where all was judged."""
    return "" if all(of_set.counted for of_set in examined) else UNCOUNTED


def _of_answers(patient: Patient) -> Iterator[Doubt]:
    if not patient.judged:
        yield from _one_answer(patient, [])
        return
    if one := list(_one_label(patient)):
        yield from one
        return
    yield from _absent(patient)
    if of_order := list(_order(patient)):
        yield from of_order
        return
    if of_answers := list(_one_answer(patient, range(len(patient.experts)))):
        yield from of_answers
        return
    best = int(patient.kappas.argmax())
    accuracy, confidence = patient.accuracy(best), patient.confidence(best)
    if (
        patient.kappas.max() <= doubts.CHANCE_KAPPA
        and confidence - accuracy >= doubts.OVERCONFIDENCE
    ):
        yield patient.doubt(
            "no_better_than_chance",
            f"no expert is better than chance: {patient.experts[best]} is right on "
            f"{_percent(accuracy)} and sure of itself by {_percent(confidence)}.",
            accuracy=accuracy,
            confidence=confidence,
            kappa=float(patient.kappas.max()),
        )


def _one_label(patient: Patient) -> Iterator[Doubt]:
    n = patient.summary.counts.class_n
    share = float(n.max() / n.sum())
    if patient.classes > 1 and share >= doubts.ONE_LABEL_SHARE:
        says = f"{_percent(share)} of the labels are one class, {patient.name(int(n.argmax()))}."
        yield patient.doubt("one_label", says, share=share)


def _absent(patient: Patient) -> Iterator[Doubt]:
    n = patient.summary.counts.class_n
    present = n[n > 0]
    missing = [c for c in range(patient.classes) if c >= len(n) or not n[c]]
    few = len(missing) <= doubts.ABSENT_SHARE * patient.classes
    if patient.count and missing and few and present.min() >= doubts.ABSENT_ROWS:
        names = ", ".join(map(patient.name, missing[:SHOWN_PAIRS]))
        says = (
            f"no sample has the label {names}{', ...' if missing[SHOWN_PAIRS:] else ''}, and each "
            f"other class has {present.min():,} or more."
        )
        yield patient.doubt("absent", says, classes=len(missing), fewest=int(present.min()))


def _order(patient: Patient) -> Iterator[Doubt]:
    """Labels in another order than the head's, or one expert's head in another than the others'."""
    orders = [patient.order(i) for i in range(len(patient.experts))]
    able = [i for i, order in enumerate(orders) if order.kappa > doubts.CHANCE_KAPPA]
    moved = [i for i in able if orders[i].is_moved]
    if not moved:
        return
    best = max(moved, key=lambda i: orders[i].best)
    top = doubts.HEAD_SHARE * max(orders[i].best for i in able)
    if all(i in moved for i in able if orders[i].best >= top):
        order, expert = orders[best], patient.experts[best]
        figures = (
            f"{expert} is right on {_percent(order.plain)}, and would be on {_percent(order.best)}"
        )
        step = shift_of(order)
        if step:
            yield patient.doubt(
                "shifted",
                f"labels look shifted by one: {_pairs(patient, order)}; {figures} with labels "
                f"{'one less' if step < 0 else 'one more'}.",
                accuracy=order.plain, best=order.best, step=step,
            )  # fmt: skip
        else:
            yield patient.doubt(
                "permuted",
                f"labels look permuted: {_pairs(patient, order)}; {figures} in that order.",
                accuracy=order.plain, best=order.best, classes=len(order.pairs),
            )  # fmt: skip
        return
    for i in moved:
        order = orders[i]
        gain = order.best - order.plain
        if order.best >= top and gain >= max(doubts.PERMUTED_GAIN, order.best / 2):
            yield patient.doubt(
                "head",
                f"the classes of expert {patient.experts[i]} look permuted, and not the others': "
                f"{_pairs(patient, order)}; it is right on {_percent(order.plain)}, and would be "
                f"on {_percent(order.best)} in that order.",
                accuracy=order.plain, best=order.best,
            )  # fmt: skip


def _pairs(patient: Patient, order: Order) -> str:
    said = [
        f"{patient.name(label)} is called {patient.name(answer)}"
        for label, answer in order.pairs[:SHOWN_PAIRS]
    ]
    more = len(order.pairs) - len(said)
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def _one_answer(patient: Patient, experts: Iterable[int]) -> Iterator[Doubt]:
    """Of DaWin on all rows, and of experts where labels let it be known."""
    counts = patient.summary.counts
    answers = {patient.experts[i]: np.bincount(patient.answers(i)) for i in experts}
    answers |= {DAWIN: counts.predicted} if counts.predicted.sum() else {}
    said: dict[int, list[str]] = {}
    shares = []
    for who, n in answers.items():
        share, answer = float(n.max() / n.sum()), int(n.argmax())
        labelled = counts.class_n.sum()
        known = counts.class_n[answer] if answer < len(counts.class_n) else 0
        if share >= doubts.ONE_ANSWER_SHARE and not (
            labelled and known / labelled >= doubts.ONE_ANSWER_SHARE
        ):
            said.setdefault(answer, []).append("DaWin" if who == DAWIN else who)
            shares.append(share)
    if patient.classes > 1 and said:
        words = " and ".join(
            f"{patient.name(answer)} of {', '.join(who)}" for answer, who in said.items()
        )
        says = f"{_percent(min(shares))} or more of the answers are one class: {words}."
        yield patient.doubt("one_answer", says, share=min(shares))


def _of_crops(patient: Patient) -> Iterator[Doubt]:
    crops = patient.summary.crops
    if crops.known < doubts.MIN_ROWS:
        return
    if crops.flat >= doubts.FLAT_SHARE * crops.known:
        share = crops.flat / crops.known
        says = f"{crops.flat:,} crops ({_percent(share)}) are of one colour."
        yield patient.doubt("flat", says, crops=crops.flat, share=share)
    differ = crops.conflicting
    if not len(differ):
        return
    share = float(differ.mean())
    if differ.sum() >= 2 and share >= doubts.DUPLICATE_SHARE:
        first = int(differ.argmax())
        labels = (patient.name(int(crops.lowest[first])), patient.name(int(crops.highest[first])))
        says = (
            f"{_percent(share)} of the crops are there more than once with different labels, such "
            f"as {' and '.join(labels)}."
        )
        yield patient.doubt("duplicates", says, share=share, crops=int(differ.sum()))


def _of_entropies(patient: Patient) -> Iterator[Doubt]:
    summary = patient.summary
    if patient.classes < 2:
        return
    most = float(np.log(patient.classes))
    low, high = (
        {
            name: float(values.quantiles([rank])[0])
            for name, values in zip(summary.experts, summary.entropy, strict=True)
        }
        for rank in (doubts.EDGE_REST, 1 - doubts.EDGE_REST)
    )
    certain = {name: v for name, v in high.items() if v <= doubts.CERTAIN_ENTROPY * most}
    blank = {name: v for name, v in low.items() if v >= doubts.BLANK_ENTROPY * most}
    for kind, at, where in (("certain", certain, "0"), ("blank", blank, f"ln C = {most:.2f}")):
        if at:
            says = f"the entropies of {', '.join(at)} are at {where} on nearly all samples."
            yield patient.doubt(kind, says, **at)


def _of_experts(examined: Sequence[Findings]) -> Iterator[Doubt]:
    """What is an expert's, on all data sets or on its own task."""
    for one, other in _same(examined):
        says = f"experts {one} and {other} give the same answers and entropies on all samples."
        yield Doubt(dataset=None, kind="same_experts", says=says, todo=KINDS["same_experts"].todo)
    told = {"head", "one_answer", "permuted", "shifted"}
    judged = [f for f in examined if len(f.kappas) and told.isdisjoint(d.kind for d in f.doubts)]
    for i, name in enumerate(examined[0].experts if examined else ()):
        own = [f for f in judged if f.own == name]
        able = own or [f for f in judged if np.delete(f.kappas, i).max() >= doubts.ABLE_KAPPA]
        if not able or any(f.kappas[i] > doubts.CHANCE_KAPPA for f in own or judged):
            continue
        most = max(able, key=lambda f: f.kappas[i])
        accuracy = float(most.accuracies[i])
        where = most.dataset if len(able) == 1 else f"each of {len(able)} data sets"
        others = "its own task" if own else "another expert is able there"
        yield Doubt(
            dataset=most.dataset if len(able) == 1 else None,
            kind="expert_at_chance",
            says=f"expert {name} is no better than chance on {where} ({others}): at most "
            f"{_percent(accuracy)} right.",
            todo=KINDS["expert_at_chance"].todo,
            evidence={"kappa": float(most.kappas[i]), "accuracy": accuracy},
        )


def _same(examined: Sequence[Findings]) -> Iterator[tuple[str, str]]:
    found = [f.same for f in examined if f.same is not None]
    for i, j in sorted(frozenset.intersection(*found)) if found else ():
        yield examined[0].experts[i], examined[0].experts[j]


def _equal(patient: Patient, i: int, j: int) -> bool:
    answer, entropy = patient.summary.sample.answer, patient.summary.entropy
    return bool((answer[:, i] == answer[:, j]).all()) and _as_one(entropy[i], entropy[j])


def _as_one(one: Sketch, other: Sketch) -> bool:
    return one.level == other.level and (
        np.array_equal(one.key, other.key) and np.array_equal(one.columns, other.columns)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
