"""What makes the doctor doubt a run's input: each kind, its threshold and why, and what to do.

`doctor` judges; here is what by. Shares are of a data set's rows, accuracies of those with a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Rows, below which nothing is said: of 30, an accuracy has a standard error of up to 9 points.
MIN_ROWS = 30

# Points of accuracy that another order of classes must bring, on samples that it was not chosen by.
# Chosen so on half of a clean set, it brings none or loses; an expert whose task is another one
# gains up to some 7 points in the demo's second suite.
PERMUTED_GAIN = 0.10

# Share of a class that must be called by one other name, and that class by a third, and so on back
# to the first: two classes are confused both ways, but not with most samples of both.
MOVED_SHARE = 2 / 3

MOVED_ROWS = 10  # of such a class: two thirds of fewer are chance

# Of the best expert's accuracy, what an expert must reach in its best order for that to be its
# head's fault: another order loses nothing, and a head of other classes reaches a half or a third.
HEAD_SHARE = 2 / 3

# Cohen's kappa (accuracy over what answers that know nothing of the image would have, from none to
# all right) up to which an expert knows nothing that matters, and from which it clearly does.
CHANCE_KAPPA, ABLE_KAPPA = 0.05, 0.25

# Mean confidence less accuracy, with which that is no hard data: who does not know says so.
OVERCONFIDENCE = 0.2

# Share of rows with one answer, and of labels with one class. A skewed set has other labels too.
ONE_ANSWER_SHARE, ONE_LABEL_SHARE = 0.95, 0.99

# Rows that each class with rows must have, for one without any to be a folder that is missing, and
# the share of classes that may be missing so; more of them are a set with other classes.
ABSENT_ROWS, ABSENT_SHARE = 20, 0.1

# Of ln C: entropies that are at 0, and at ln C, on all but EDGE_REST of the rows. Temperatures of
# ten times too little or too much do it, no training.
CERTAIN_ENTROPY, BLANK_ENTROPY, EDGE_REST = 1e-3, 0.98, 0.01

# Share of crops that are there twice with two labels: each is wrong once, so that accuracies are
# off by half of it at least.
DUPLICATE_SHARE = 0.01

FLAT_SHARE = 0.01  # of crops of one colour: on so many, answers are luck


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Something that looks wrong with a run's input.

    `says` has the figures for a person, `evidence` their values. `dataset` is None where it is of
    no single one.
    """

    dataset: str | None
    kind: str  # one of KINDS
    says: str
    todo: str
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """All for a person, in a line."""
        where = "" if self.dataset is None else f"{self.dataset}: "
        return f"{where}{self.says} {self.todo}"


@dataclass(frozen=True, kw_only=True)
class DoubtKind:
    """When a kind is said, with its thresholds in words, and what to do then."""

    when: str
    todo: str


def _points(share: float) -> str:
    return f"{100 * share:g}"


KINDS: Mapping[str, DoubtKind] = {
    "shifted": DoubtKind(
        when=f"labels moved by one class bring {_points(PERMUTED_GAIN)} points of accuracy or more",
        todo="Do the labels count from 1? Correct them, or give the class list that they count by "
        "(datasets[].classes).",
    ),
    "permuted": DoubtKind(
        when=f"the best order of classes, found on the other half of the samples, brings "
        f"{_points(PERMUTED_GAIN)} points or more; or classes are called by each other's names, "
        f"each on {_points(round(MOVED_SHARE, 3))} % of {MOVED_ROWS} samples or more",
        todo="Compare the order of the labels or folders with the head's: dawin-ray plan shows "
        "both. Name the folders by class, or give the class list in the data's order.",
    ),
    "head": DoubtKind(
        when=f"the same for one expert alone: an order brings it half of what it gets right so, "
        f"{_points(PERMUTED_GAIN)} points or more, and {_points(round(HEAD_SHARE, 3))} % of the "
        "best expert's accuracy or more",
        todo="Its head has another order of classes than the other experts'. Check its checkpoint.",
    ),
    "no_better_than_chance": DoubtKind(
        when=f"no expert has a kappa above {CHANCE_KAPPA:g}, and the best one's mean confidence is "
        f"{_points(OVERCONFIDENCE)} points or more above its accuracy",
        todo="The labels may be other images' (rows in another order, another file), or the head's "
        "classes other ones. Look at some samples: dawin-ray plan --peek.",
    ),
    "expert_at_chance": DoubtKind(
        when=f"an expert's kappa is at most {CHANCE_KAPPA:g} on every data set, and another's "
        f"{ABLE_KAPPA:g} or more on one; or it is so on its own task",
        todo="Its checkpoint may be of another architecture (QuickGELU or not), head or "
        "preprocessing, or not trained. Check model.architecture and the file.",
    ),
    "one_answer": DoubtKind(
        when=f"{_points(ONE_ANSWER_SHARE)} % or more of the answers are one class, and not of the "
        "labels",
        todo="Check the pixels' mean and std (dawin-ray plan shows them), the head and the "
        "checkpoint.",
    ),
    "one_label": DoubtKind(
        when=f"{_points(ONE_LABEL_SHARE)} % or more of the labels are one class",
        todo="Check the label column, or whether the path is one class's folder.",
    ),
    "absent": DoubtKind(
        when=f"at most {_points(ABSENT_SHARE)} % of the classes have no sample, and each other has "
        f"{ABSENT_ROWS} or more",
        todo="Is a folder missing or misspelt? dawin-ray plan lists what was left out.",
    ),
    "duplicates": DoubtKind(
        when=f"{_points(DUPLICATE_SHARE)} % or more of the crops are there twice, with different "
        "labels",
        todo="Find them by the column crop_hash of experts/, and keep one label of each.",
    ),
    "flat": DoubtKind(
        when=f"{_points(FLAT_SHARE)} % or more of the crops are of one colour",
        todo="Damaged downloads and placeholders look so. Find them by the column crop_range of "
        "experts/.",
    ),
    "certain": DoubtKind(
        when=f"an expert's entropies are at most {CERTAIN_ENTROPY:g} of ln C, on all but "
        f"{_points(EDGE_REST)} % of the samples",
        todo="So they do not tell the experts apart. Check temperature and logit scale.",
    ),
    "blank": DoubtKind(
        when=f"an expert's entropies are at least {BLANK_ENTROPY:g} of ln C, on all but "
        f"{_points(EDGE_REST)} % of the samples",
        todo="So it says nothing of any image. Check temperature, logit scale and head.",
    ),
    "same_experts": DoubtKind(
        when="two experts give the same answers and entropies on all samples",
        todo="Is one checkpoint given twice?",
    ),
}  # fmt: skip
