"""Each mode as a job: what in the job's own values it changes, and where its answers stand.

No job asks one model alone: the experts are what a run's rows, report and audit are about. A static
model, or an expert, is applied as a saved fit of one cluster that is it, in one pass; where data
sets have other classes than each other, or an expert is over a base, its answers are those of a
baseline beside the job's own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dawin_ray.advice.modes import MODES, Mode
from dawin_ray.config import Job, make_job
from dawin_ray.errors import UserError
from dawin_ray.job import Prepared
from dawin_ray.method import DAWIN, EVEN, Fit, Mixture, MixtureConfig

# What an expert alone leaves to the others: nothing that float32 weights could tell from it, and
# no 0, of which a mixture has no logarithm.
NEXT_TO_NOTHING = 1e-12

# In values, the address of a saved fit that is still to be written.
FIT_FILE = "advised.fit.json"

CLUSTERED, EXACT = DAWIN, "dawin, exact"  # kinds of the modes that come in one

# Weights of the last of two experts that are tried besides 1/2: as few as show where it is best.
STATIC = (0.25, 0.75)

STATIC_NAME = "static_{:g}"  # as `methods_of` calls them


@dataclass(frozen=True, kw_only=True)
class Option:
    """A mode, as a job."""

    mode: Mode
    kind: str  # which expert, which weight; one where there is but one
    what: str  # in words
    values: Mapping[str, Any]  # of the job file; a fit that it needs is at FIT_FILE
    job: Job
    weights: tuple[float, ...] | None = None  # of the one model that a saved fit brings
    column: str = "prediction"  # of the tables, where its answers stand


def kinds_of(job: Job, labelled: bool) -> dict[Mode, tuple[str, ...]]:
    """The kinds that each mode comes in, the first the one to take where none is better."""
    experts = tuple(expert.name for expert in job.experts)
    static: tuple[str, ...] = (EVEN,)
    if labelled and len(experts) == 2:
        static += tuple(STATIC_NAME.format(weight) for weight in STATIC)
    # without labels, the last: the one that was fine-tuned for the data
    return {
        "plain": experts if labelled else experts[-1:],
        "static": static,
        "clustered": (CLUSTERED,),
        "exact": (EXACT,),
    }


def option(mode: Mode, kind: str, values: Mapping[str, Any], prepared: Prepared) -> Option | str:
    """The job of a mode, or why there is none.

    `values` are the job's own. Nothing is read or written.
    """
    changed, job = copy.deepcopy(dict(values)), prepared.job
    weights, column, what = None, "prediction", _words(mode, kind, job)
    if mode in ("plain", "static"):
        weights = weights_of(kind, [expert.name for expert in job.experts])
        if _one_fit_is_enough(prepared) and not (mode == "plain" and job.merge.base):
            _apply_fit(changed, job, kind, next(iter(prepared.shards)))
        else:
            column = "expert_prediction" if mode == "plain" else "baseline_prediction"
            weights = None
            _beside(changed, mode, kind)
    elif mode == "exact" and not job.exact:
        changed["mixture"] = {"clusters": "exact"}
        _without_fits(changed)
    elif mode == "clustered" and job.exact:
        changed["mixture"] = {"clusters": MixtureConfig().clusters}
    try:
        made = make_job(changed)
    except UserError as error:
        return str(error).rpartition("\n")[2].strip()
    return Option(
        mode=mode, kind=kind, what=what, values=changed, job=made, weights=weights, column=column
    )


def weights_of(kind: str, experts: Sequence[str]) -> tuple[float, ...]:
    """The share of each expert in a static model or an expert alone."""
    if kind in experts:
        rest = NEXT_TO_NOTHING
        return tuple(1 - rest * (len(experts) - 1) if kind == e else rest for e in experts)
    if kind == EVEN:
        return (1 / len(experts),) * len(experts)
    last = next(weight for weight in STATIC if STATIC_NAME.format(weight) == kind)
    return (1 - last, last)


def fit_of(weights: Sequence[float], samples: int) -> Fit:
    """A fit of one cluster, whose merged model has these weights for every sample."""
    mixture = Mixture(
        concentrations=np.array([weights], dtype=np.float64),
        weights=np.ones(1),
        mean_log_likelihood=0.0,
        converged=True,
        iterations=0,
        samples=samples,
    )
    return Fit(samples=samples, mixture=mixture, source="samples")


def ordered(options: Mapping[Mode, Option]) -> list[Mode]:
    """Those that are there, by price."""
    return [mode for mode in MODES if mode in options]


def _apply_fit(values: dict[str, Any], job: Job, kind: str, dataset: str) -> None:
    values["fit"] = {"from": FIT_FILE, "dataset": dataset}
    values["mixture"] = {"clusters": 1}
    _without_fits(values)
    if kind == EVEN and job.incumbent != EVEN:  # it is the merged model itself
        values["baselines"] = {**(values.get("baselines") or {}), "even_interpolation": False}


def _without_fits(values: dict[str, Any]) -> None:
    """They are of mixtures, and none is fitted."""
    if (values.get("baselines") or {}).get("fits"):
        values["baselines"] = {k: v for k, v in values["baselines"].items() if k != "fits"}


def _beside(values: dict[str, Any], mode: Mode, kind: str) -> None:
    """Its answers are a baseline's; those of experts are always there."""
    if mode == "plain":
        return
    baselines = dict(values.get("baselines") or {})
    if kind == EVEN:
        baselines["even_interpolation"] = True
    else:
        weight = next(w for w in STATIC if STATIC_NAME.format(w) == kind)
        baselines["static"] = [*dict.fromkeys([*(baselines.get("static") or ()), weight])]
    values["baselines"] = baselines


def _one_fit_is_enough(prepared: Prepared) -> bool:
    """Whether one saved fit holds for all data sets: it is of classes and texts."""
    names = list(prepared.shards)
    classes = {prepared.fingerprint["classes"][name] for name in names}
    texts = {tuple(sorted(prepared.texts[name].items())) for name in names}
    return len(classes) == len(texts) == 1


def _words(mode: Mode, kind: str, job: Job) -> str:
    if mode == "plain":
        return f"{kind} alone"
    if mode == "static":
        if kind == EVEN:
            return "even interpolation"
        return f"static interpolation, {kind.partition('_')[2]} of {job.experts[-1].name}"
    if mode == "clustered":
        clusters = MixtureConfig().clusters if job.exact else job.mixture.clusters
        return f"DaWin, K = {clusters}"
    return "DaWin, exact"
