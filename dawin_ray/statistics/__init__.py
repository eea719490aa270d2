"""TODO face statistics."""

from dawin_ray.statistics.distribution import disagreements, summary_of
from dawin_ray.statistics.drift import KINDS, DriftConfig, drift_of
from dawin_ray.statistics.scores import (
    BINS,
    CLASS_PRIOR,
    COVERAGES,
    LEVEL,
    RESAMPLES,
    Interval,
    accuracy,
    holm,
    mcnemar,
    paired_differences,
)

__all__ = [
    "BINS",
    "CLASS_PRIOR",
    "COVERAGES",
    "KINDS",
    "LEVEL",
    "RESAMPLES",
    "DriftConfig",
    "Interval",
    "accuracy",
    "disagreements",
    "drift_of",
    "holm",
    "mcnemar",
    "paired_differences",
    "summary_of",
]
