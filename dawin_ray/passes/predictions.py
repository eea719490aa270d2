"""Pass 2: the predictions of the interpolated models, and a sample of them in float32.

Shapes: n samples of a chunk, B batch, M experts, K clusters, C classes, H x W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
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
    outcome,
)
from dawin_ray.models import Experts, load_experts, matmul_mode, tower_dtype
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.interpolated import interpolated_models
from dawin_ray.passes.overflow import finite, listed, overflow
from dawin_ray.passes.pixels import PixelFeed
from dawin_ray.passes.spec import ScoringSpec

# In lower precision or rank, every 8th sample of about every 16th chunk, and of each data set's
# first, is scored in float32 as well: 0.8 % more samples, and about 390 of ImageNet's 50,000 to
# tell the agreement from. Few large batches, as each reads all weights.
AGREEMENT_STRIDE = 8

AGREEMENT_CHUNKS = 16


class Predict:
    """Pass 2: the predictions of the interpolated models for a chunk's samples."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts | None = None):
        """`fits` maps a data set to its fit; data sets with one fit share their merged models."""
        self.spec = spec
        self.fits = fits
        self.device = torch.device(spec.device)
        experts = experts or load_experts(spec.model)
        self.feed = PixelFeed(experts.preprocessing, self.device, tower_dtype(spec.precision))
        self.models = interpolated_models(spec, experts, self.feed)
        self.agreement: Float32Sample | None = None
        if spec.precision != "float32" or spec.exact_rank is not None:
            self.agreement = Float32Sample(spec, fits, experts)

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
            logits, clusters = self.models.logits(chunk, self.fits[chunk.dataset], coefficients)
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

    def _beside(
        self, chunk: Chunk, log_e_nM: np.ndarray, labels_n: torch.Tensor
    ) -> dict[str, np.ndarray]:
        """Columns `fit_*` of the fits to be compared with; none where there are none."""
        others = self.fits[chunk.dataset].beside
        if not others:
            return {}

        def run(method: Method) -> torch.Tensor:
            fit = others[method.name]
            coefficients = fit.coefficients(log_e_nM)
            logits, clusters = self.models.logits(chunk, fit, coefficients)
            self._check_finite(chunk, logits, coefficients, clusters, f" of '{method.name}'")
            return logits.softmax(dim=-1)

        methods = [Method(name=name, kind="fit") for name in others]
        found = compare_methods(methods, {}, run, labels_n, prefix="fit")
        return {name: values.cpu().numpy() for name, values in found.items()}


class Float32Sample:
    """A part of a chunk's samples, the same every time, scored in float32 and with full rank."""

    def __init__(self, spec: ScoringSpec, fits: Mapping[str, Fit], experts: Experts):
        """`spec` is that of the lower precision; the fits are its own."""
        alone = BaselinesConfig(even_interpolation=False, output_ensembles=False)
        spec = replace(spec, precision="float32", exact_rank=None, baselines=alone)
        fits = {name: replace(fit, beside={}) for name, fit in fits.items()}
        self.compared = spec.compared
        self.score = ScoreExperts(spec, experts)
        self.predict = Predict(spec, fits, experts)

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
