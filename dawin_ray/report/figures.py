"""The figures of an audit, as records: what `audit` finds, and what page and pictures show.

`audit.json` is an `Audit`; what needs labels is None or empty where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dawin_ray.method import DAWIN, Mixture
from dawin_ray.report.doubts import Doubt
from dawin_ray.runs import AUDIT, RunDirectory
from dawin_ray.statistics import LEVEL, Estimates, Interval

ALPHA = 1 - LEVEL

Says = Literal["better", "worse", "no significant difference"]
Answer = Literal["yes", "no", "not shown"]  # whether DaWin should replace the incumbent


def verdict(difference: float, significant: bool) -> Says:
    """What may be said of a difference."""
    if not significant:
        return "no significant difference"
    return "better" if difference > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class ComparedMethod:
    """A compared method."""

    name: str
    kind: str
    weight: float | None  # of the last of two experts, where it is on the static curve
    uses_labels: bool
    uses_task: bool = False
    meaning: str = ""  # a phrase

    @property
    def is_bound(self) -> bool:
        """Whether it knows what DaWin does not, and so is no rival."""
        return self.uses_labels or self.uses_task

    @property
    def shown(self) -> str:
        """Its name; of a bound also what it knows."""
        if not self.is_bound:
            return self.name
        return f"{self.name} ({'uses labels' if self.uses_labels else 'knows the task'})"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a method costs, in forwards of one model for a sample, and in merges of weights.

    `alone`: by itself, with the experts' forwards where it asks them; `added`: to a run that has
    the experts' answers. Where `about`, both are to the price of a samplewise forward. `merges`:
    in each worker, at most, over all data sets; None where the run does not say.
    """

    alone: int
    added: int
    merges: int | None
    about: bool = False


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How values lie: their mean, and those of `audit.QUANTILES`."""

    mean: float | None
    quantiles: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CoefficientSpread(Spread):
    """The same of an expert's coefficients, with counts of equal bins over [0, 1]."""

    histogram: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Away:
    """Wasserstein's distances from another data set, by expert."""

    origin: Annotated[str, Field(alias="from")]
    entropy: Mapping[str, float | None]  # nats
    coefficient: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares of samples: where the experts agree, and with whom DaWin does."""

    all_agree: float
    dawin_with: Mapping[str, float]
    dawin_with_none: float


@dataclass(frozen=True, kw_only=True)
class Components:
    """A fitted mixture, as mixture.json has it."""

    concentrations: tuple[tuple[float, ...], ...]  # [K, M]
    weights: tuple[float, ...]
    mean_log_likelihood: float
    converged: bool
    iterations: int
    samples: float

    @classmethod
    def of(cls, mixture: Mixture) -> Components:
        """Those of a mixture."""
        return cls(
            concentrations=tuple(map(tuple, mixture.concentrations.tolist())),
            weights=tuple(mixture.weights.tolist()),
            mean_log_likelihood=mixture.mean_log_likelihood,
            converged=mixture.converged,
            iterations=mixture.iterations,
            samples=mixture.samples,
        )


@dataclass(frozen=True, kw_only=True)
class ClusterAudit:
    """A cluster's samples; its accuracy is None where none has a label.

    `weights` merged the model that predicted: the mean of the mixture's component. The mean of its
    samples' own coefficients, which led them there, is another figure.
    """

    cluster: int
    size: int
    mean_coefficient: tuple[float, ...] | None
    accuracy: Interval | None
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A point of a reliability curve."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Risk:
    """A point of a risk-coverage curve."""

    coverage: float
    risk: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A method on a data set's labelled samples."""

    accuracy: Interval
    nll: Interval
    brier: Interval
    ece: float
    aurc: float
    accuracy_at_coverage: Mapping[str, float]
    reliability: tuple[Bin, ...]
    risk_coverage: tuple[Risk, ...]


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """DaWin's accuracy minus a method's, on the same samples.

    A bound that saw the labels is no rival to be tested against: it has no p-value and no verdict.
    """

    better: int
    worse: int
    p: float | None
    p_holm: float | None = None
    says: Says | None = None


@dataclass(frozen=True, kw_only=True)
class Normalised(Interval):
    """A method's accuracy divided by that of the task's own expert, on the same samples.

    Beside it the samples that both got right, that the method alone did, and the expert alone.
    """

    both: int
    alone: int
    own_alone: int


@dataclass(frozen=True, kw_only=True)
class MeanDifference(Interval):
    """The mean of the differences over a suite."""

    says: Says


@dataclass(frozen=True, kw_only=True)
class ClassGain:
    """A class's accuracies, and the gain over the best expert by shrunk ones."""

    index: Annotated[int, Field(alias="class")]
    name: str | None
    n: int
    accuracy: float
    best_expert: float
    shrunk_gain: float


@dataclass(frozen=True, kw_only=True)
class ClassGains:
    """How many classes have samples, and those that gained and lost most."""

    present: int
    gains: tuple[ClassGain, ...] = ()
    losses: tuple[ClassGain, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Samples by which experts are right, and on how many of them DaWin is."""

    cell: str
    n: int
    dawin_right: int


@dataclass(frozen=True, kw_only=True)
class DatasetAudit:
    """The figures of one data set; mappings are by expert, or by method with DaWin among them."""

    dataset: str
    rejects: int
    away: Away
    rows: int
    labelled: int
    coefficient: Mapping[str, CoefficientSpread]
    mixture: Components | None  # None in the exact mode
    entropy: Mapping[str, Spread]  # nats
    agreement: Agreement
    clusters: tuple[ClusterAudit, ...]
    confidence: Mapping[str, float | None]
    methods: Mapping[str, Scores]
    differences: Mapping[str, Difference]
    best_expert: str | None = None
    classes: ClassGains | None = None
    cells: tuple[Cell, ...] = ()
    entropy_against_loss: Mapping[str, float | None] | None = None
    expert: str | None = None  # whose task it is, where the job says so
    normalised: Mapping[str, Normalised] = field(default_factory=dict)

    @property
    def preferred(self) -> str | None:
        """The expert of the largest mean coefficient; None without rows."""
        means = {name: found.mean for name, found in self.coefficient.items()}
        known = {name: mean for name, mean in means.items() if mean is not None}
        return max(known, key=known.__getitem__) if known else None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Means over data sets, of which each weighs the same."""

    datasets: tuple[str, ...]
    accuracy: Mapping[str, Interval]
    differences: Mapping[str, MeanDifference]


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Means over the data sets with labels whose own expert is known and right on some of them.

    Each data set weighs the same. `own`: the own experts' accuracy; the others are by method.
    """

    datasets: tuple[str, ...]
    own: Interval
    accuracy: Mapping[str, Interval]
    normalised: Mapping[str, Interval]

    def best_of(self, methods: Sequence[str]) -> str:
        """The method that keeps most."""
        return max(methods, key=lambda name: self.normalised[name].value)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All figures of a run's page, and what they allow to say."""

    VERSION: ClassVar[int] = 1

    level: float
    experts: tuple[str, ...]
    methods: tuple[ComparedMethod, ...]
    in_distribution: str | None
    datasets: tuple[DatasetAudit, ...]
    suite: Suite | None
    words: tuple[str, ...] = ()
    tasks: Tasks | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)  # by method
    incumbent: str | None = None  # the method that is in use, where the job says which
    replace_it: Answer | None = None  # None without an incumbent, or without labels
    estimates: Estimates | None = None  # of accuracies, without the labels of their data sets
    doubts: tuple[Doubt, ...] = ()  # what looks wrong with the input
    unjudged: str = ""  # what the doctor could not look at

    @property
    def labelled(self) -> tuple[DatasetAudit, ...]:
        """The data sets that have labels."""
        return tuple(row for row in self.datasets if row.labelled)

    @property
    def of_tasks(self) -> tuple[DatasetAudit, ...]:
        """The data sets whose expert is known, by the order of the experts."""
        known = [row for row in self.datasets if row.expert is not None]
        return tuple(sorted(known, key=lambda row: self.experts.index(str(row.expert))))

    @property
    def rivals(self) -> tuple[str, ...]:
        """The methods that DaWin is tested against: those that know no more than it does."""
        return tuple(method.name for method in self.methods if not method.is_bound)

    @property
    def primary(self) -> tuple[str, ...]:
        """Whom the answer is about: the incumbent, or every expert where none is named."""
        return self.experts if self.incumbent is None else (self.incumbent,)

    @property
    def shown(self) -> dict[str, str]:
        """What stands for each method in tables and pictures."""
        return {method.name: method.shown for method in self.methods} | {DAWIN: "DaWin"}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all methods, DaWin last."""
        return (*(method.name for method in self.methods), DAWIN)

    @classmethod
    def read(cls, run: RunDirectory) -> Audit:
        """That of a run.

        Raises:
            UserError: it is damaged, or not of this version; `dawin-ray report` makes it again.
        """
        return run.read_record(cls, AUDIT)

    def write(self, run: RunDirectory) -> None:
        """Into a run."""
        run.write_record(AUDIT, self)
