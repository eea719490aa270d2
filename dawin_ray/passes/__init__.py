"""A chunk of crops becomes rows: arrays in, tables out, and no file.

A pass is a thing (`Pass`): what it is called, which tables it writes, and what makes the models
that score a chunk. `Predict` is the same for merged and for samplewise models: which of them answer
is chosen in `interpolated.py` alone. Imports the method, models and data; an engine runs it, and a
run directory keeps what it makes, but it knows neither.
"""

from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.interpolated import check_exact
from dawin_ray.passes.labelled import FewSamples
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.predictions import Predict
from dawin_ray.passes.spec import ScoringSpec, Task
from dawin_ray.passes.stages import (
    LABELS,
    Pass,
    Scorer,
    experts_pass,
    predictions_pass,
    single_pass,
)  # fmt: skip

__all__ = [
    "LABELS", "FewSamples", "Pass", "PixelFeed", "Predict", "ScoreExperts", "Scorer", "ScoringSpec",
    "Task", "check_exact", "equal_parts", "experts_pass", "predictions_pass", "single_pass",
]  # fmt: skip
