"""The passes as things: what each is called, which tables it writes, and what scores its chunks.

two passes   experts -> fit -> merged (or exact)
one pass     at_once, where the coefficients depend on the sample alone, or the fit is there
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa

from dawin_ray.data import Chunk
from dawin_ray.method import Fit
from dawin_ray.models import load_experts
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.memory import check_memory
from dawin_ray.passes.pixels import PixelFeed
from dawin_ray.passes.predictions import Predict
from dawin_ray.passes.spec import ScoringSpec
from dawin_ray.tables import Kind

Tables = dict[Kind, pa.Table]

# What a pass is called where people read it, by its name in report.json.
LABELS = {
    "experts": "pass 1, experts",
    "merged": "pass 2, merged models",
    "exact": "pass 2, exact models",
    "at_once": "one pass, experts and interpolated models",
}


class Scorer(Protocol):
    """A pass's models, loaded."""

    @property
    def feed(self) -> PixelFeed:
        """Which says how far a chunk has come."""

    @property
    def merges(self) -> int:
        """Models merged so far."""

    def __call__(self, chunk: Chunk, read: Callable[[Kind], pa.Table]) -> Tables:
        """The pass's tables of a chunk; `read` gives one that an earlier pass made of it."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A pass over all chunks; small, and safe to pickle."""

    name: str
    spec: ScoringSpec
    tables: tuple[Kind, ...]  # that it writes for each chunk, the last one last
    make: Callable[[], Scorer]  # loads the models on the worker that calls it
    reads: tuple[Kind, ...] = ()  # tables of an earlier pass that it asks for at each chunk

    @property
    def label(self) -> str:
        """For people."""
        return LABELS[self.name]

    @property
    def stage(self) -> str:
        """For people, in short."""
        return self.label.split(",")[0]


def experts_pass(spec: ScoringSpec) -> Pass:
    """Pass 1: what each expert says, and the baselines."""
    return Pass(name="experts", spec=spec, tables=("experts",), make=partial(_Experts, spec))


def predictions_pass(spec: ScoringSpec, fits: Mapping[str, Fit]) -> Pass:
    """Pass 2: what the interpolated models say; `fits` are by data set."""
    name = "exact" if spec.exact else "merged"
    make = partial(_Predictions, spec, fits)
    return Pass(name=name, spec=spec, tables=("predictions",), make=make, reads=("experts",))


def single_pass(spec: ScoringSpec, fits: Mapping[str, Fit]) -> Pass:
    """Both passes in one."""
    make = partial(_AtOnce, spec, fits)
    return Pass(name="at_once", spec=spec, tables=("experts", "predictions"), make=make)


class _Experts:
    merges = 0

    def __init__(self, spec: ScoringSpec):
        experts = load_experts(spec.model)
        check_memory(spec, experts, ("experts",))
        self.score = ScoreExperts(spec, experts)
        self.feed = self.score.feed

    def __call__(self, chunk: Chunk, read: Callable[[Kind], pa.Table]) -> Tables:
        return {"experts": self.score(chunk)}


class _Predictions:
    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit]):
        experts = load_experts(spec.model)
        check_memory(spec, experts, ("exact",) if spec.exact else ())
        self.predict = Predict(spec, fits, experts)
        self.feed = self.predict.feed

    @property
    def merges(self) -> int:
        return self.predict.models.merges

    def __call__(self, chunk: Chunk, read: Callable[[Kind], pa.Table]) -> Tables:
        return {"predictions": self.predict(chunk, read("experts"))}


class _AtOnce:
    """The experts are loaded once for both."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit]):
        experts = load_experts(spec.model)
        check_memory(spec, experts, ("experts", "exact") if spec.exact else ("experts",))
        self.score = ScoreExperts(spec, experts)
        self.predict = Predict(spec, fits, experts)
        self.feed = self.score.feed

    @property
    def merges(self) -> int:
        return self.predict.models.merges

    def __call__(self, chunk: Chunk, read: Callable[[Kind], pa.Table]) -> Tables:
        experts = self.score(chunk)
        return {"experts": experts, "predictions": self.predict(chunk, experts)}
