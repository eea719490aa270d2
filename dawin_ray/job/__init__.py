"""The whole job, in order: prepare, pass 1, fit, pass 2, report; and what is asked of one besides.

`prepare` finds and refuses all that can be known before anything runs, `score` runs what it
prepared, `plan_of` and `verify` say what would be and what is, `calibrate` makes of a few labels
what a job applies. Imports everything but the command, demo and bench, which import it.
"""

from dawin_ray.job.calibrate import LEVEL, calibrate, without_calibration
from dawin_ray.job.calibrated import lines_of_calibration
from dawin_ray.job.json_log import STDOUT, json_log
from dawin_ray.job.labelled import labelled_by_file, labelled_by_share
from dawin_ray.job.meter import Metered, metered
from dawin_ray.job.peek import Look, lines_of_classes, peek_of
from dawin_ray.job.plan import plan_of
from dawin_ray.job.prepare import Prepared, dataset_classes, prepare
from dawin_ray.job.progress import ConsoleProgress
from dawin_ray.job.score import score
from dawin_ray.job.verify import verify

__all__ = [
    "LEVEL",
    "STDOUT",
    "ConsoleProgress",
    "Look",
    "Metered",
    "Prepared",
    "calibrate",
    "dataset_classes",
    "json_log",
    "labelled_by_file",
    "labelled_by_share",
    "lines_of_calibration",
    "lines_of_classes",
    "metered",
    "peek_of",
    "plan_of",
    "prepare",
    "score",
    "verify",
    "without_calibration",
]
