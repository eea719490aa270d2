"""DaWin as a distributed batch-inference job: score image data sets with interpolated CLIP models.

Method: Oh et al., "DaWin: Training-free Dynamic Weight Interpolation for Robust Adaptation",
ICLR 2025, arXiv 2410.03782; reference code: github.com/naver-ai/dawin, commit 310e0e1.

    from dawin_ray import load_job, prepare, read_predictions, score

    job = load_job("job.yaml")
    score(prepare(job))
    read_predictions(job.run_dir)

Names are imported when they are first used, so that `import dawin_ray` costs nothing. The method
alone, on one's own tensors, is `dawin_ray.method`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dawin_ray import moved

if TYPE_CHECKING:
    from dawin_ray.config import Job, load_job
    from dawin_ray.errors import UserError
    from dawin_ray.job.prepare import prepare
    from dawin_ray.job.score import score
    from dawin_ray.job.verify import verify
    from dawin_ray.report import read_predictions

__version__ = "0.1.0"

__all__ = [
    "Job", "UserError", "__version__", "load_job", "prepare", "read_predictions", "score", "verify",
]  # fmt: skip

moved.install()

_HOMES = {
    "Job": "config",
    "UserError": "errors",
    "load_job": "config",
    "prepare": "job",
    "read_predictions": "report",
    "score": "job",
    "verify": "job",
}


def __getattr__(name: str) -> Any:
    """A name of the face, from the package that it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
