"""The paper: logits -> weights. Knows no files, no job and no cluster; needs torch and numpy only.

Imports `errors` and `settings` of this project, and every other package may import it. Usable
alone, on one's own tensors and models: see `fit`, `merge` and `SamplewiseClassifier`. In the order
of Oh et al., "DaWin" (ICLR 2025, arXiv 2410.03782):

    H(x), e = exp(-H)                           entropy, log_expertise (METRICS has other measures)
    lambda(x) = e_1 / (e_0 + e_1), or softmax   Fit.coefficients (with an offset, where it has one)
    Beta mixture of lambda; Dirichlet, M > 2    fit_mixture; fit does it all of a stream
    (1 - lambda) theta_0 + lambda theta_1       interpolate
    theta_0 + s M sum lambda_t (theta_t - theta_0)   merge with a base
    the same for each sample, in batches        SamplewiseClassifier (samplewise/README.md)
    temperatures and log odds of labels         temperature_of, choose_log_odds
    what it is compared with                    methods_of, output_ensembles, compare_methods;
                                                static_weights (Trim and ties among them)
"""

from dawin_ray.method.baselines import (
    DAWIN,
    EVEN,
    OWN,
    BaselinesConfig,
    FitConfig,
    Method,
    methods_of,
)
from dawin_ray.method.calibration import (
    PENALTY,
    TENTHS,
    LogOdds,
    choose_log_odds,
    ensemble_right,
    right_between,
    temperature_of,
    tempered,
)
from dawin_ray.method.coefficients import (
    OFFSET_EXPERTS,
    REFERENCE_TAIL,
    CoefficientConfig,
    Offset,
    Reference,
    coefficients,
)
from dawin_ray.method.expertise import METRICS, entropy, log_expertise, pseudo_labels
from dawin_ray.method.fit import FEW_EXPERTS, Fit, fit, largest_weights, named_weights
from dawin_ray.method.likelihood import SEARCH_VERSION
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
from dawin_ray.method.outcomes import coefficients_of, compare_methods, outcome, output_ensembles
from dawin_ray.method.samplewise import Placement, SamplewiseClassifier, check_samplewise
from dawin_ray.method.starts import import_soon
from dawin_ray.method.static import static_weights
from dawin_ray.method.streams import LambdaHistogram, Stream, entropy_quantiles, few
from dawin_ray.method.ties import TiesConfig, Trim, ties

__all__ = [
    "DAWIN", "EVEN", "FEW_EXPERTS", "METRICS", "OFFSET_EXPERTS", "OWN", "PENALTY", "REFERENCE_TAIL",
    "SEARCH_VERSION", "TASK_SCALE", "TENTHS", "BaselinesConfig", "CoefficientConfig", "Fit",
    "FitConfig", "LambdaHistogram", "LogOdds", "MergeConfig", "Method", "Mixture", "MixtureConfig",
    "Offset", "Placement", "Reference", "SamplewiseClassifier", "StateDict", "Stream", "TiesConfig",
    "Trim", "check_finite", "check_mergeable", "check_samplewise", "choose_log_odds",
    "coefficients", "coefficients_of", "compare_methods", "ensemble_right", "entropy",
    "entropy_quantiles", "few", "fit", "fit_mixture", "import_soon", "interpolate",
    "largest_weights", "log_expertise", "merge", "methods_of", "named_weights", "outcome",
    "output_ensembles", "pseudo_labels", "right_between", "static_weights", "temperature_of",
    "tempered", "ties",
]  # fmt: skip
