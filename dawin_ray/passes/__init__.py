"""TODO face passes."""

from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.predictions import PredictExact, PredictMerged
from dawin_ray.passes.spec import PHASES, ScoringSpec

__all__ = [
    "PHASES",
    "PixelFeed",
    "PredictExact",
    "PredictMerged",
    "ScoreExperts",
    "ScoringSpec",
    "equal_parts",
]
