"""DecodeImages, ScoreExperts, PredictMerged: arrays in, arrays out; no Ray, no output files.

Shapes: n samples of a chunk, B batch, M experts, K clusters, C classes, H x W pixels.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import psutil
import pyarrow as pa
import torch
from PIL import Image

from dawin_ray import tables
from dawin_ray.classes import DatasetClasses, check_label
from dawin_ray.datasets import Shard, read_samples
from dawin_ray.errors import UserError
from dawin_ray.expertise import (
    CoefficientConfig,
    entropy,
    log_expertise,
    pseudo_labels,
)
from dawin_ray.fitting import Fit
from dawin_ray.merge import TASK_SCALE, merge
from dawin_ray.models import Classifier, Experts, ModelSpec, Preprocessing, load_experts

# What Pillow's decoders raise on damaged data. Anything else is a fault of ours and ends the run.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# Merged models of several data sets stay loaded while they take less than this share of the
# device's free memory; the rest is for activations and for Ray's object store.
MERGED_MEMORY_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A fixed range of samples of one shard, decoded. Its name depends on nothing else."""

    name: str
    dataset: str
    shard: str
    sample_ids: list[str]
    labels: list[int | None]
    images: np.ndarray  # uint8 [n, H, W, 3], the crops of sample_ids
    rejects: list[tuple[str, str]] = field(default_factory=list)  # (sample_id, reason)
    bytes: int = 0  # of the shard that this chunk stands for: for progress


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """All that the model stages need; small, and safe to pickle."""

    model: ModelSpec
    heads: Mapping[str, str]  # data set -> head
    classes: Mapping[str, DatasetClasses]  # data set -> its classes
    coefficient: CoefficientConfig
    scale: float = TASK_SCALE
    even_interpolation: bool = True
    batch_size: int = 256
    dtype: str = "float32"
    device: str = "cpu"


class DecodeImages:
    """Reads a shard and yields its samples as chunks of crops, in order."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        chunk_size: int,
        classes: Mapping[str, DatasetClasses],
        finished: Callable[[Shard], Collection[str]] = lambda shard: (),
    ):
        """`finished` names a shard's chunks that need not be decoded again."""
        self.preprocessing = preprocessing
        self.chunk_size = chunk_size
        self.classes = classes
        self.finished = finished
        self.crop = preprocessing.crop()

    def __call__(self, shard: Shard) -> Iterator[Chunk]:
        """The chunks of a shard that are still to be done."""
        finished = self.finished(shard)

        def wanted(ordinal: int) -> bool:
            start = ordinal - ordinal % self.chunk_size
            return not finished or self.chunk_name(shard, start) not in finished

        samples, start, position = [], 0, 0
        for ordinal, sample in enumerate(read_samples(shard, wanted)):
            if ordinal == start + self.chunk_size:
                if samples:
                    yield self._decode(shard, start, samples, position)
                    position = samples[-1].position
                samples, start = [], ordinal
            if wanted(ordinal):
                samples.append(sample)
        if samples:
            yield self._decode(shard, start, samples, position)

    @staticmethod
    def chunk_name(shard: Shard, start: int) -> str:
        """The name of the chunk that begins at a sample's ordinal in the shard."""
        return f"{shard.key}-{start:09d}"

    def _decode(self, shard: Shard, start: int, samples: list, before: int) -> Chunk:
        height, width = self.preprocessing.size
        images = np.empty((len(samples), height, width, 3), dtype=np.uint8)
        ids, labels, rejects = [], [], []
        for sample in samples:
            if sample.label is not None:
                where = f"sample '{sample.sample_id}'"
                check_label(sample.label, self.classes[shard.dataset].count, shard.dataset, where)
            if sample.error is not None:
                rejects.append((sample.sample_id, sample.error))
                continue
            try:
                with Image.open(io.BytesIO(sample.image)) as image:
                    crop = self.crop(image)
            except DECODE_ERRORS as error:
                reason = f"cannot be decoded: {type(error).__name__}: {error}"
                # PIL puts the address of its buffer into the message; no two runs would agree
                rejects.append((sample.sample_id, reason.split(" <_io.")[0]))
                continue
            images[len(ids)] = crop
            ids.append(sample.sample_id)
            labels.append(sample.label)
        return Chunk(
            name=self.chunk_name(shard, start),
            dataset=shard.dataset,
            shard=shard.name,
            sample_ids=ids,
            labels=labels,
            images=images[: len(ids)],
            rejects=rejects,
            bytes=samples[-1].position - before,
        )


class ScoreExperts:
    """Pass 1: the experts' predictions, entropies and expertises of a chunk."""

    def __init__(self, spec: ScoringSpec):
        """Loads the experts; with `even_interpolation`, their even merge as one more model."""
        self.spec = spec
        self.device = torch.device(spec.device)
        dtype = getattr(torch, spec.dtype)
        experts = load_experts(spec.model)
        self.preprocessing = experts.preprocessing
        self.temperatures = [expert.temperature for expert in spec.model.experts]
        self.models = [experts.classifier(s, self.device, dtype) for s in experts.states]
        self.even: Classifier | None = None
        if spec.even_interpolation or spec.coefficient.needs_merged:
            share = 1 / len(experts.states)
            even = merge(
                experts.states, [share] * len(experts.states), base=experts.base, scale=spec.scale
            )
            self.even = experts.classifier(even, self.device, dtype)

    @torch.inference_mode()
    def __call__(self, chunk: Chunk) -> pa.Table:
        """A table of `tables.EXPERTS`, one row a sample, in the chunk's order."""
        spec, size = self.spec, self.spec.batch_size
        parts = [
            self._score(chunk, slice(start, start + size))
            for start in range(0, len(chunk.sample_ids), size)
        ]
        columns = {"sample_id": chunk.sample_ids, "label": chunk.labels}
        if parts:
            columns |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not spec.even_interpolation:
            columns.pop("even_prediction", None)
        return tables.table(tables.EXPERTS, columns)

    def _score(self, chunk: Chunk, rows: slice) -> dict[str, np.ndarray]:
        spec = self.spec
        classes, head = spec.classes[chunk.dataset], spec.heads[chunk.dataset]
        pixels = _pixels(chunk.images[rows], self.preprocessing, self.models[0], self.device)
        logits = [classes.project(model(pixels, head)) for model in self.models]
        even = classes.project(self.even(pixels, head)) if self.even is not None else None
        probabilities = [
            (x / temperature).softmax(dim=-1)
            for x, temperature in zip(logits, self.temperatures, strict=True)
        ]
        log_e = log_expertise(
            spec.coefficient.metric,
            logits,
            self.temperatures,
            self._target(chunk, rows, logits, even),
        )
        entropies = [entropy(x, t) for x, t in zip(logits, self.temperatures, strict=True)]
        columns = {
            "expert_prediction": torch.stack([x.argmax(dim=-1) for x in logits], dim=-1).int(),
            "expert_confidence": torch.stack([p.amax(dim=-1) for p in probabilities], dim=-1),
            "expert_entropy": torch.stack(entropies, dim=-1),
            "log_expertise": log_e,
        }
        if even is not None:
            columns["even_prediction"] = even.argmax(dim=-1).int()
        for name, values in columns.items():
            if not torch.isfinite(values).all():
                bad = ~torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
                row = int(bad.nonzero()[0])
                raise FloatingPointError(
                    f"{name} of sample '{chunk.sample_ids[rows][row]}' in data set "
                    f"'{chunk.dataset}' is not finite; the experts' logits overflow in {spec.dtype}"
                )
        return {name: values.cpu().numpy() for name, values in columns.items()}

    def _target(
        self, chunk: Chunk, rows: slice, logits: list[torch.Tensor], even: torch.Tensor | None
    ) -> torch.Tensor | None:
        target = self.spec.coefficient.target
        if target is None:
            return None
        if target != "labels":
            return pseudo_labels(target, logits, self.temperatures, even)
        labels = chunk.labels[rows]
        if None in labels:
            raise UserError(
                f"The oracle (coefficient.target: labels) needs a label for every sample, but "
                f"'{chunk.sample_ids[rows][labels.index(None)]}' of data set '{chunk.dataset}' has "
                "none. Use a pseudo label or metric: entropy."
            )
        return torch.tensor(labels, device=self.device)


class PredictMerged:
    """Pass 2: the predictions of the model merged for each sample's cluster."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit]):
        """`fits` maps a data set to its fit; data sets with one fit share their merged models."""
        self.spec = spec
        self.fits = fits
        self.device = torch.device(spec.device)
        self.dtype = getattr(torch, spec.dtype)
        self.experts: Experts = load_experts(spec.model)
        self.budget = MERGED_MEMORY_SHARE * _free_memory(self.device)
        self.merged: dict[int, list[Classifier]] = {}
        self.merges = 0  # models merged so far

    @torch.inference_mode()
    def __call__(self, chunk: Chunk, experts: pa.Table) -> pa.Table:
        """A table of `tables.PREDICTIONS`; `experts` is pass 1's table of the same chunk.

        Raises:
            RuntimeError: the samples are not those that pass 1 scored.
        """
        if experts["sample_id"].to_pylist() != chunk.sample_ids:
            raise RuntimeError(
                f"chunk {chunk.name} of data set '{chunk.dataset}' holds other samples than in "
                f"pass 1 (shard {chunk.shard}): the data changed during the run. Run it again in a "
                "new run_dir."
            )
        columns = {
            name: experts[name].combine_chunks()
            for name in experts.schema.names
            if name in tables.PREDICTIONS.names
        }
        if not chunk.sample_ids:
            return tables.table(tables.PREDICTIONS, columns)
        fit = self.fits[chunk.dataset]
        count = len(self.spec.model.experts)
        coefficients = fit.coefficients(tables.rows_of(experts["log_expertise"], count))
        clusters = fit.mixture.predict(coefficients)
        logits = self._logits(chunk, clusters, self._models(fit))
        probabilities = logits.softmax(dim=-1)
        top = probabilities.topk(min(tables.TOP_CLASSES, logits.shape[-1]), dim=-1)
        return tables.table(
            tables.PREDICTIONS,
            columns
            | {
                "prediction": logits.argmax(dim=-1).int().numpy(),
                "confidence": probabilities.amax(dim=-1).numpy(),
                "entropy": entropy(logits).numpy(),
                "coefficient": coefficients.astype(np.float32),
                "cluster": clusters,
                "top_classes": top.indices.int().numpy(),
                "top_probabilities": top.values.numpy(),
            },
        )

    def _logits(self, chunk: Chunk, clusters: np.ndarray, models: list[Classifier]) -> torch.Tensor:
        """Float32 logits [n, C] on the CPU, each sample's from its cluster's model."""
        classes, head = self.spec.classes[chunk.dataset], self.spec.heads[chunk.dataset]
        logits = torch.empty(len(clusters), classes.count)
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            for start in range(0, len(members), self.spec.batch_size):
                rows = members[start : start + self.spec.batch_size]
                model = models[cluster]
                pixels = _pixels(chunk.images[rows], self.experts.preprocessing, model, self.device)
                logits[torch.from_numpy(rows)] = classes.project(model(pixels, head)).cpu()
        return logits

    def _models(self, fit: Fit) -> list[Classifier]:
        """The K merged models of a fit: merged at its first chunk, kept while memory allows."""
        key = id(fit)
        if key in self.merged:
            self.merged[key] = self.merged.pop(key)  # now the most recently used
            return self.merged[key]
        one = sum(t.numel() for t in self.experts.states[0].values()) * self.dtype.itemsize
        needed = one * len(fit.mixture.means)
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
            )
            for mean in fit.mixture.means
        ]
        self.merges += len(self.merged[key])
        return self.merged[key]


def _pixels(
    crops: np.ndarray, preprocessing: Preprocessing, model: Classifier, device: torch.device
) -> torch.Tensor:
    """Normalised pixels [B, 3, H, W] on the device, in the tower's precision."""
    # a copy: crops come from shared, read-only memory, and torch wants to own what it reads
    pixels = preprocessing.normalise(torch.tensor(crops).to(device, non_blocking=True))
    return pixels.to(next(model.visual.parameters()).dtype)


def _free_memory(device: torch.device) -> int:
    """Bytes free on the device; on a CPU, in this machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
