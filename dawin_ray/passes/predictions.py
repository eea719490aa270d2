"""ScoreExperts, PredictMerged, PredictExact: arrays in, arrays out; no Ray, no output files.

Shapes: n samples of a chunk, B batch, M experts, K clusters, C classes, H x W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import psutil
import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.data import Chunk
from dawin_ray.method import (
    BaselinesConfig,
    Fit,
    Method,
    compare_methods,
    entropy,
    merge,
    outcome,
)
from dawin_ray.models import Classifier, Experts, load_experts, matmul_mode, tower_dtype
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.overflow import finite, listed, overflow
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.spec import ScoringSpec

# Merged models of several data sets stay loaded while they take less than this share of the
# device's free memory; the rest is for activations and for Ray's object store.
MERGED_MEMORY_SHARE = 0.4

# In lower precision or rank, every 8th sample of about every 16th chunk, and of each data set's
# first, is scored in float32 as well: 0.8 % more samples, and about 390 of ImageNet's 50,000 to
# tell the agreement from. Few large batches, as each reads all weights.
AGREEMENT_STRIDE = 8

AGREEMENT_CHUNKS = 16


class _Predict:
    """Pass 2: the predictions of the models that `_logits` chooses for a chunk's samples."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts | None = None):
        """`fits` maps a data set to its fit; data sets with one fit share their merged models."""
        self.spec = spec
        self.fits = fits
        self.device, self.dtype = torch.device(spec.device), tower_dtype(spec.precision)
        self.experts: Experts = experts or load_experts(spec.model)
        self.feed = PixelFeed(self.experts.preprocessing, self.device, self.dtype)
        self.merges = 0  # models merged so far
        self.agreement: Float32Sample | None = None
        if spec.precision != "float32" or spec.exact_rank is not None:
            self.agreement = Float32Sample(spec, fits, self.experts)

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
        count = len(self.spec.model.experts)
        log_e = tables.rows_of(experts["log_expertise"], count)
        coefficients = self.fits[chunk.dataset].coefficients(log_e)
        labels = [-1 if label is None else label for label in chunk.labels]
        labels_B = torch.tensor(labels, device=self.device)
        with matmul_mode(self.spec.precision):
            logits, clusters = self._logits(chunk, coefficients)
            self._check_finite(chunk, logits, coefficients, clusters)
            columns |= self._beside(chunk, log_e, labels_B)
        probabilities = logits.softmax(dim=-1)
        scores = outcome(probabilities, labels_B)
        top = probabilities.topk(min(tables.TOP_CLASSES, logits.shape[-1]), dim=-1)
        columns |= {
            "prediction": logits.argmax(dim=-1).int().cpu().numpy(),
            "confidence": probabilities.amax(dim=-1).cpu().numpy(),
            "nll": scores["nll"].cpu().numpy(),
            "brier": scores["brier"].cpu().numpy(),
            "entropy": entropy(logits).cpu().numpy(),
            "coefficient": coefficients.astype(np.float32),
            "cluster": clusters,
            "top_classes": top.indices.int().cpu().numpy(),
            "top_probabilities": top.values.cpu().numpy(),
        }
        if self.agreement is not None:
            columns["float32_prediction"] = self.agreement(chunk)
        return tables.table(tables.PREDICTIONS, columns)

    def _check_finite(
        self,
        chunk: Chunk,
        logits_nC: torch.Tensor,
        coefficients_nM: np.ndarray,
        clusters: np.ndarray | None,
        of: str = "",
    ) -> None:
        """Sound experts may merge to a model that overflows; `of` is a fit that is compared with.

        Raises:
            FloatingPointError: naming sample, data set and cluster.
        """
        fine = finite(logits_nC).cpu()
        if fine.all():
            return
        row = int((~fine).nonzero()[0])
        model = (
            f"the model of its own coefficients ({listed(coefficients_nM[row])})"
            if clusters is None
            else f"the model merged for cluster {clusters[row]}"
        )
        raise overflow(chunk, fine, model + of, self.spec.precision)

    def _logits(
        self, chunk: Chunk, coefficients_nM: np.ndarray
    ) -> tuple[torch.Tensor, np.ndarray | None]:
        """Float32 logits [n, C] on the device, and clusters int32 [n] where there are any."""
        raise NotImplementedError

    def _beside(
        self, chunk: Chunk, log_e_nM: np.ndarray, labels_n: torch.Tensor
    ) -> dict[str, np.ndarray]:
        """Columns `fit_*` of the fits to be compared with; none where there are none."""
        return {}


class PredictMerged(_Predict):
    """Pass 2: the predictions of the model merged for each sample's cluster."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts | None = None):
        """Merges happen at a fit's first chunk."""
        super().__init__(spec, fits, experts)
        self.budget = MERGED_MEMORY_SHARE * _free_memory(self.device)
        self.merged: dict[int, list[Classifier]] = {}

    def _logits(self, chunk: Chunk, coefficients_nM: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        return self._logits_of(self.fits[chunk.dataset], chunk, coefficients_nM)

    def _beside(
        self, chunk: Chunk, log_e_nM: np.ndarray, labels_n: torch.Tensor
    ) -> dict[str, np.ndarray]:
        others = self.fits[chunk.dataset].beside
        if not others:
            return {}

        def run(method: Method) -> torch.Tensor:
            fit = others[method.name]
            coefficients = fit.coefficients(log_e_nM)
            logits, clusters = self._logits_of(fit, chunk, coefficients)
            self._check_finite(chunk, logits, coefficients, clusters, f" of '{method.name}'")
            return logits.softmax(dim=-1)

        methods = [Method(name=name, kind="fit") for name in others]
        found = compare_methods(methods, {}, run, labels_n, prefix="fit")
        return {name: values.cpu().numpy() for name, values in found.items()}

    def _logits_of(
        self, fit: Fit, chunk: Chunk, coefficients_nM: np.ndarray
    ) -> tuple[torch.Tensor, np.ndarray]:
        classes, head = self.spec.classes[chunk.dataset], self.spec.heads[chunk.dataset]
        clusters, models = fit.mixture.predict(coefficients_nM), self._models(fit)
        batches = [
            (models[cluster], members[part])
            for cluster in np.unique(clusters)
            for members in [np.flatnonzero(clusters == cluster)]
            for part in equal_parts(len(members), self.spec.batch_size)
        ]
        order = [rows for _, rows in batches]
        logits = [
            classes.project(model(pixels, head))
            for (model, _), pixels in zip(batches, self.feed(chunk.images, order), strict=True)
        ]
        back = np.argsort(np.concatenate(order), kind="stable")
        return torch.cat(logits)[torch.from_numpy(back).to(self.device)], clusters

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
                f"the model merged for cluster {cluster} (coefficients {listed(mean)})",
            )
            for cluster, mean in enumerate(fit.mixture.means)
        ]
        self.merges += len(self.merged[key])
        return self.merged[key]


class PredictExact(_Predict):
    """Pass 2: the predictions of the model interpolated with each sample's own coefficients."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts | None = None):
        """Stacks the experts' parameters, once."""
        super().__init__(spec, fits, experts)
        self.model = self.experts.samplewise(
            spec.scale, rank=spec.exact_rank, device=self.device, dtype=self.dtype
        )

    def _logits(self, chunk: Chunk, coefficients_nM: np.ndarray) -> tuple[torch.Tensor, None]:
        classes, head = self.spec.classes[chunk.dataset], self.spec.heads[chunk.dataset]
        coefficients = torch.from_numpy(coefficients_nM.astype(np.float32)).to(self.device)
        parts = equal_parts(len(chunk.sample_ids), self.spec.batch_size)
        rows = [slice(part[0], part[-1] + 1) for part in parts]
        logits = [
            classes.project(self.model(pixels, coefficients[part], head))
            for part, pixels in zip(rows, self.feed(chunk.images, rows), strict=True)
        ]
        return torch.cat(logits), None


class Float32Sample:
    """A part of a chunk's samples, the same every time, scored in float32 and with full rank."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts):
        """`spec` is that of the lower precision; the fits are its own."""
        alone = BaselinesConfig(even_interpolation=False, output_ensembles=False)
        spec = replace(spec, precision="float32", exact_rank=None, baselines=alone)
        fits = {name: replace(fit, beside={}) for name, fit in fits.items()}
        self.compared = spec.compared
        self.score = ScoreExperts(spec, experts)
        self.predict = (PredictExact if spec.exact else PredictMerged)(spec, fits, experts)

    def __call__(self, chunk: Chunk) -> pa.Array:
        """The float32 prediction of the chosen samples, int32 [n], and null for the others."""
        drawn = zlib.crc32(chunk.name.encode()) % AGREEMENT_CHUNKS == 0
        if not drawn and chunk.name not in self.compared:
            return pa.nulls(len(chunk.sample_ids), pa.int32())
        chosen = chunk.select(slice(None, None, AGREEMENT_STRIDE))
        try:
            found = self.predict(chosen, self.score(chosen))["prediction"].to_pylist()
        except FloatingPointError as error:
            raise FloatingPointError(
                f"In the sample that is scored in float32 to compare with: {error}"
            ) from error
        column: list[int | None] = [None] * len(chunk.sample_ids)
        column[::AGREEMENT_STRIDE] = found
        return pa.array(column, pa.int32())


def _free_memory(device: torch.device) -> int:
    """Bytes free on the device; on a CPU, in this machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
