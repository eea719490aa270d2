"""TODO face job."""

from dawin_ray.job.plan import plan_of
from dawin_ray.job.prepare import Prepared, prepare
from dawin_ray.job.progress import ConsoleProgress
from dawin_ray.job.score import score
from dawin_ray.job.verify import verify

__all__ = [
    "ConsoleProgress",
    "Prepared",
    "plan_of",
    "prepare",
    "score",
    "verify",
]
