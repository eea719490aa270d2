"""Plain arrays in, plain numbers out: what is said of predictions, and how sure that is.

`scores.py` has intervals, tests and calibration; `distribution.py` how samples lay, `drift.py` a
batch held against that. `summary.py` has rows in what adds: exact counts, sketches (`sketch.py`,
`risks.py`) and a sample, of bounded size whatever the number of rows. Imports `settings` of this
project alone; whatever stands behind it in the order of packages may import it.
"""

from dawin_ray.statistics.confusions import Confusions
from dawin_ray.statistics.crops import FLAT_RANGE, Crops
from dawin_ray.statistics.distribution import (
    Distribution, ReferenceRows, ScoredRows, distributions_of,
)  # fmt: skip
from dawin_ray.statistics.drift import KINDS, DriftConfig, DriftReport, DriftStatistic, drift_of
from dawin_ray.statistics.estimates import Estimated, Estimates, estimates_of
from dawin_ray.statistics.rows import Rows, hashes_of, sum_of_hashes
from dawin_ray.statistics.scores import (
    BINS, CLASS_PRIOR, COVERAGES, LEVEL, RESAMPLES, Interval, accuracy, holm, mcnemar,
    paired_differences, paired_gains, shrunk,
)  # fmt: skip
from dawin_ray.statistics.sketch import MAX_BINS, Sketch, distance
from dawin_ray.statistics.summary import Summary
from dawin_ray.statistics.sums import floats_of

__all__ = [
    "BINS", "CLASS_PRIOR", "COVERAGES", "FLAT_RANGE", "KINDS", "LEVEL", "MAX_BINS", "RESAMPLES",
    "Confusions", "Crops", "Distribution", "DriftConfig", "DriftReport", "DriftStatistic",
    "Estimated", "Estimates", "Interval", "ReferenceRows", "Rows", "ScoredRows", "Sketch",
    "Summary", "accuracy", "distance", "distributions_of", "drift_of", "estimates_of", "floats_of",
    "hashes_of", "holm", "mcnemar", "paired_differences", "paired_gains", "shrunk", "sum_of_hashes",
]  # fmt: skip
