"""Plain arrays in, plain numbers out: what is said of predictions, and how sure that is.

`scores.py` has intervals, tests, calibration and selective risk; `distribution.py` how samples lay,
`drift.py` a batch held against that. Imports `settings` of this project alone; whatever stands
behind it in the order of packages may import it.
"""

from dawin_ray.statistics.distribution import (
    Distribution, ReferenceRows, ScoredRows, disagreements, distributions_of,
)  # fmt: skip
from dawin_ray.statistics.drift import KINDS, DriftConfig, DriftReport, DriftStatistic, drift_of
from dawin_ray.statistics.scores import (
    BINS, CLASS_PRIOR, COVERAGES, LEVEL, RESAMPLES, Interval, accuracy, holm, mcnemar,
    paired_differences,
)  # fmt: skip

__all__ = [
    "BINS", "CLASS_PRIOR", "COVERAGES", "KINDS", "LEVEL", "RESAMPLES", "Distribution",
    "DriftConfig", "DriftReport", "DriftStatistic", "Interval", "ReferenceRows", "ScoredRows",
    "accuracy", "disagreements", "distributions_of", "drift_of", "holm", "mcnemar",
    "paired_differences",
]  # fmt: skip
