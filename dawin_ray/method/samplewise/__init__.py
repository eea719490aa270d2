"""Every sample its own weights: the exact method, in batches; README.md has costs and limits.

`classifier.py` puts tensors in the place of a model's parameters that are another one for each
sample; `tensors.py` has their types, `operations.py` what PyTorch's functions make of them.
"""

from dawin_ray.method.samplewise import operations  # registers the rules of `tensors.RULES`
from dawin_ray.method.samplewise.classifier import (
    Placement,
    SamplewiseClassifier,
    check_samplewise,
)

__all__ = ["Placement", "SamplewiseClassifier", "check_samplewise", "operations"]
