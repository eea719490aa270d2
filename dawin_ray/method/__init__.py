"""TODO face method."""

from dawin_ray.method.baselines import EVEN, BaselinesConfig, FitConfig, Method, methods_of
from dawin_ray.method.coefficients import REFERENCE_TAIL, CoefficientConfig, Reference
from dawin_ray.method.expertise import entropy, log_expertise, pseudo_labels
from dawin_ray.method.fit import Fit, fit
from dawin_ray.method.merge import (
    TASK_SCALE,
    MergeConfig,
    StateDict,
    check_finite,
    check_mergeable,
    interpolate,
    merge,
)
from dawin_ray.method.mixture import Mixture, MixtureConfig, fit_mixture
from dawin_ray.method.outcomes import coefficients_of, compare, outcome, output_ensembles
from dawin_ray.method.samplewise.classifier import SamplewiseClassifier, check_samplewise
from dawin_ray.method.streams import LambdaHistogram, entropy_quantiles

__all__ = [
    "EVEN",
    "REFERENCE_TAIL",
    "TASK_SCALE",
    "BaselinesConfig",
    "CoefficientConfig",
    "Fit",
    "FitConfig",
    "LambdaHistogram",
    "MergeConfig",
    "Method",
    "Mixture",
    "MixtureConfig",
    "Reference",
    "SamplewiseClassifier",
    "StateDict",
    "check_finite",
    "check_mergeable",
    "check_samplewise",
    "coefficients_of",
    "compare",
    "entropy",
    "entropy_quantiles",
    "fit",
    "fit_mixture",
    "interpolate",
    "log_expertise",
    "merge",
    "methods_of",
    "outcome",
    "output_ensembles",
    "pseudo_labels",
]
