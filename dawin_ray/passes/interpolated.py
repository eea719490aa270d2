"""Who answers in pass 2: a model merged for each cluster, or one with each sample's own weights.

Shapes: n samples of a chunk, B batch, M experts, K clusters, C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from dawin_ray.data import Chunk
from dawin_ray.method import Fit, Mixture, check_samplewise, merge
from dawin_ray.models import Classifier, Experts, tower_dtype
from dawin_ray.passes.memory import free_memory
from dawin_ray.passes.overflow import listed
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.spec import ScoringSpec

# Merged models of several data sets stay loaded while they take less than this share of the
# device's free memory; the rest is for activations and for Ray's object store.
MERGED_MEMORY_SHARE = 0.4

PROBE_IMAGES = 2  # of the exact mode's check: enough to mix two samples up


class InterpolatedModels(Protocol):
    """The models that a chunk's samples are given to by their coefficients."""

    merges: int  # models merged so far

    def logits(
        self, chunk: Chunk, fit: Fit, coefficients_nM: np.ndarray
    ) -> tuple[torch.Tensor, np.ndarray | None]:
        """Float32 logits [n, C] on the device, and clusters int32 [n] where there are any."""


def interpolated_models(spec: ScoringSpec, experts: Experts, feed: PixelFeed) -> InterpolatedModels:
    """Those that the job asks for."""
    kind = SamplewiseModels if spec.exact else MergedModels
    return kind(spec, experts, feed)


class MergedModels:
    """A model for each cluster of a fit: merged at its first chunk, kept while memory allows."""

    def __init__(self, spec: ScoringSpec, experts: Experts, feed: PixelFeed):
        """Merges nothing yet."""
        self.spec, self.experts, self.feed = spec, experts, feed
        self.device, self.dtype = torch.device(spec.device), tower_dtype(spec.precision)
        self.budget = MERGED_MEMORY_SHARE * free_memory(self.device)
        self.merged: dict[int, list[Classifier]] = {}
        self.merges = 0

    def logits(
        self, chunk: Chunk, fit: Fit, coefficients_nM: np.ndarray
    ) -> tuple[torch.Tensor, np.ndarray]:
        """See `InterpolatedModels`; each sample goes to its cluster's model."""
        task = self.spec.tasks[chunk.dataset]
        clusters, models = mixture_of(fit).predict(coefficients_nM), self.of(fit)
        batches = [
            (models[cluster], members[part])
            for cluster in np.unique(clusters)
            for members in [np.flatnonzero(clusters == cluster)]
            for part in equal_parts(len(members), self.spec.batch_size)
        ]
        order = [rows for _, rows in batches]
        logits = [
            task.classes.project(model(pixels, task.head))
            for (model, _), pixels in zip(batches, self.feed(chunk.images, order), strict=True)
        ]
        back = np.argsort(np.concatenate(order), kind="stable")
        return torch.cat(logits)[torch.from_numpy(back).to(self.device)], clusters

    def of(self, fit: Fit) -> list[Classifier]:
        """The K merged models of a fit. Data sets with one fit share them."""
        key = id(fit)
        if key in self.merged:
            self.merged[key] = self.merged.pop(key)  # now the most recently used
            return self.merged[key]
        weights = self.experts.whole(self.experts.states[0])
        one = sum(tensor.numel() for tensor in weights.values()) * self.dtype.itemsize
        means = mixture_of(fit).means
        needed = one * len(means)
        while self.merged and needed + one * sum(map(len, self.merged.values())) > self.budget:
            self.merged.pop(next(iter(self.merged)))  # the least recently used
        self.merged[key] = [
            self.experts.classifier(
                merge(
                    self.experts.states,
                    mean.tolist(),
                    base=self.experts.base,
                    scale=self.spec.scale,
                ),
                self.device,
                self.dtype,
                f"the model merged for cluster {cluster} (coefficients {listed(mean)})",
            )
            for cluster, mean in enumerate(means)
        ]
        self.merges += len(self.merged[key])
        return self.merged[key]


def mixture_of(fit: Fit) -> Mixture:
    """The mixture of a fit that has one."""
    assert fit.mixture is not None, "models are merged for the clusters of a mixture"
    return fit.mixture


class SamplewiseModels:
    """One model, in which every sample has weights of its own."""

    merges = 0

    def __init__(self, spec: ScoringSpec, experts: Experts, feed: PixelFeed):
        """Stacks the experts' parameters, once."""
        self.spec, self.feed = spec, feed
        self.device = torch.device(spec.device)
        self.model = experts.samplewise(
            spec.scale,
            rank=spec.exact_rank,
            device=self.device,
            dtype=tower_dtype(spec.precision),
        )

    def logits(
        self, chunk: Chunk, fit: Fit, coefficients_nM: np.ndarray
    ) -> tuple[torch.Tensor, None]:
        """See `InterpolatedModels`; the fit is in the coefficients already."""
        task = self.spec.tasks[chunk.dataset]
        coefficients = torch.from_numpy(coefficients_nM.astype(np.float32)).to(self.device)
        parts = equal_parts(len(chunk.sample_ids), self.spec.batch_size)
        rows = [slice(part[0], part[-1] + 1) for part in parts]
        logits = [
            task.classes.project(self.model(pixels, coefficients[part], task.head))
            for part, pixels in zip(rows, self.feed(chunk.images, rows), strict=True)
        ]
        return torch.cat(logits), None


def check_exact(experts: Experts, architecture: str, scale: float) -> None:
    """Run the exact mode once on noise, against merged weights.

    Raises:
        UserError: they differ, or an operation of the architecture is not supported.
    """
    height, width = experts.preprocessing.size
    noise = torch.Generator().manual_seed(0)

    def merged(coefficients: Sequence[float]) -> Classifier:
        state = merge(experts.states, coefficients, base=experts.base, scale=scale)
        return experts.classifier(state, torch.device("cpu"), torch.float32)

    check_samplewise(
        experts.samplewise(scale),
        merged,
        torch.randn(PROBE_IMAGES, 3, height, width, generator=noise),
        next(iter(experts.skeleton.heads)),
        name=architecture,
    )
