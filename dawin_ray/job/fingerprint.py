"""What a run's values depend on, and what a fit holds for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dawin_ray.config import Job
from dawin_ray.method import SEARCH_VERSION

# Keys that came after 0.1.0, with the value at which they change nothing. There they are left out,
# so that a run of before, or a directory that grows, is still the same job's.
LATER: dict[str, dict[str, Any]] = {
    "baselines": {
        "own_expert": False, "averaging": False, "task_arithmetic": [], "ties": None, "base": False,
    },
    "baselines.coefficients": {"calibration": None},
    "coefficient": {"calibration": None},
    "datasets": {"head": None, "expert": None, "annotations": None},
}  # fmt: skip


def values_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a fingerprint has of a job's keys, given as JSON; of a list of sections, of each."""
    return {section: _without(value, section) for section, value in job.items()}


def _without(value: Any, section: str) -> Any:
    later = LATER.get(section, {})
    if isinstance(value, list):
        return [_without(item, section) for item in value]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in later or v != later[k]}
        return {k: _without(v, f"{section}.{k}") for k, v in kept.items()}
    return value


def identity_of(
    experts: Sequence[Mapping[str, Any]],
    base: str | None,
    scale: float,
    preprocessing: Mapping[str, Any],
    coefficient: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """What a fit holds for, besides classes and texts of its data set.

    `experts` are {sha256, temperature} in order, `architecture` is the digest of its config, and
    `preprocessing` has open_clip's version, which makes tokens and towers. Those of torch and of
    image libraries are left out: they move the last bits of a value, and a fit is a statistic of
    many.
    """
    identity: dict[str, Any] = json.loads(
        json.dumps(
            {
                "architecture": architecture, "experts": list(experts), "base": base,
                "scale": scale, "preprocessing": preprocessing, "coefficient": coefficient,
            }
        )
    )  # fmt: skip
    return identity


def fitting_of(job: Job) -> dict[str, Any]:
    """How a job fits its mixtures, with every default decided: parts of its fingerprint.

    Another default of an estimator is another fit, which an unfinished run must not go on with. Of
    two experts, whose defaults have not changed, it is what it was in every version; a job that
    fits nothing does not depend on it. `likelihood` is there where a fit is by likelihood.
    """
    experts = len(job.experts)
    if job.saved_fit is not None:
        experts = 2  # nothing is fitted
    fits = [job.mixture, *(fit.mixture(job.mixture) for fit in job.baselines.fits)]
    decided = [fit.for_experts(experts) for fit in fits]
    by_likelihood = any(
        fit.estimator == "maximum_likelihood" and fit.clusters != "exact" for fit in decided
    )
    return {
        "mixture": decided[0].model_dump(mode="json"),
        **({"likelihood": SEARCH_VERSION} if by_likelihood and job.saved_fit is None else {}),
    }
