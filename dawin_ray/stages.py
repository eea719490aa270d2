"""ScoreExperts, PredictMerged, PredictExact: arrays in, arrays out; no Ray, no output files.

Shapes: n samples of a chunk, B batch, M experts, K clusters, C classes, H x W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import psutil
import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.chunks import Chunk
from dawin_ray.classes import DatasetClasses
from dawin_ray.comparisons import (
    EVEN,
    BaselinesConfig,
    Method,
    coefficients_of,
    compare,
    methods_of,
    outcome,
    output_ensembles,
)
from dawin_ray.errors import UserError
from dawin_ray.expertise import CoefficientConfig, entropy, log_expertise, pseudo_labels
from dawin_ray.feeding import PixelFeed, equal_parts
from dawin_ray.fitting import Fit
from dawin_ray.merge import TASK_SCALE, merge
from dawin_ray.models import Classifier, Experts, ModelSpec, load_experts
from dawin_ray.overflow import FINITE, finite, listed, overflow
from dawin_ray.precision import Precision, matmul_mode, tower_dtype
from dawin_ray.samplewise import SamplewiseClassifier

# Merged models of several data sets stay loaded while they take less than this share of the
# device's free memory; the rest is for activations and for Ray's object store.
MERGED_MEMORY_SHARE = 0.4
# In lower precision or rank, every 8th sample of about every 16th chunk, and of each data set's
# first, is scored in float32 as well: 0.8 % more samples, and about 390 of ImageNet's 50,000 to
# tell the agreement from. Few large batches, as each reads all weights.
AGREEMENT_STRIDE = 8
AGREEMENT_CHUNKS = 16
OF_LABELS = {"baseline_nll", "baseline_brier"}  # NaN where there is no label


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """All that the model stages need; small, and safe to pickle."""

    model: ModelSpec
    heads: Mapping[str, str]  # data set -> head
    classes: Mapping[str, DatasetClasses]  # data set -> its classes
    coefficient: CoefficientConfig
    scale: float = TASK_SCALE
    exact: bool = False  # each sample's own weights instead of its cluster's
    exact_rank: int | None = None  # of the differences, in the exact mode
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    batch_size: int = 256
    precision: Precision = "float32"
    device: str = "cpu"
    compared: frozenset[str] = frozenset()  # chunks that are scored in float32 too in any case

    @property
    def methods(self) -> tuple[Method, ...]:
        """What DaWin is compared with in pass 1."""
        names = [expert.name for expert in self.model.experts]
        found = methods_of(self.baselines, names, self.coefficient)
        return tuple(method for method in found if method.kind != "fit")


class ScoreExperts:
    """Pass 1: the experts' predictions, entropies and expertises of a chunk, and the baselines."""

    def __init__(self, spec: ScoringSpec, experts: Experts | None = None):
        """Loads the experts; merges a model for each static baseline, stacks one for the rest."""
        self.spec = spec
        self.device, dtype = torch.device(spec.device), tower_dtype(spec.precision)
        experts = experts or load_experts(spec.model)
        self.preprocessing = experts.preprocessing
        self.feed = PixelFeed(experts.preprocessing, self.device, dtype)
        self.temperatures = [expert.temperature for expert in spec.model.experts]
        self.models = [
            experts.classifier(state, self.device, dtype, f"expert '{expert.name}'")
            for expert, state in zip(spec.model.experts, experts.states, strict=True)
        ]
        self.static: dict[str, Classifier] = {}
        count = len(experts.states)
        for method in spec.methods:
            if method.kind == "static":
                even, last = [1 / count] * count, method.weight
                state = merge(
                    experts.states, even if last is None else [1 - last, last],
                    base=experts.base, scale=spec.scale,
                )  # fmt: skip
                self.static[method.name] = experts.classifier(
                    state, self.device, dtype, f"the static interpolation '{method.name}'"
                )
        self.samplewise: SamplewiseClassifier | None = None
        if any(method.kind == "samplewise" for method in spec.methods):
            self.samplewise = SamplewiseClassifier(
                experts.skeleton, experts.states, base=experts.base, scale=spec.scale,
                device=self.device, dtype=dtype,
            )  # fmt: skip

    @torch.inference_mode()
    def __call__(self, chunk: Chunk) -> pa.Table:
        """A table of `tables.EXPERTS`, one row a sample, in the chunk's order."""
        parts = equal_parts(len(chunk.sample_ids), self.spec.batch_size)
        rows = [slice(part[0], part[-1] + 1) for part in parts]
        with matmul_mode(self.spec.precision):
            parts = [
                self._score(chunk, part, pixels)
                for part, pixels in zip(rows, self.feed(chunk.images, rows), strict=True)
            ]
        columns = {"sample_id": chunk.sample_ids, "label": chunk.labels}
        if parts:
            # copied to the host once a chunk: until here a GPU is never waited for
            scored = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
            sound = {name: scored.pop(name) for name in list(scored) if name.startswith(FINITE)}
            self._check_finite(sound, scored, chunk)
            columns |= {name: values.numpy() for name, values in scored.items()}
        return tables.table(tables.EXPERTS, columns)

    def _score(self, chunk: Chunk, rows: slice, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        spec = self.spec
        classes, head = spec.classes[chunk.dataset], spec.heads[chunk.dataset]
        logits = [classes.project(model(pixels, head)) for model in self.models]
        even = None
        if EVEN in self.static:
            even = classes.project(self.static[EVEN](pixels, head))
        scaled = [x / t for x, t in zip(logits, self.temperatures, strict=True)]
        probabilities_MBC = torch.stack([x.softmax(dim=-1) for x in scaled])
        entropies_BM = torch.stack([entropy(x) for x in scaled], dim=-1)
        target = self._target(chunk, rows, logits, even)
        log_e_BM = log_expertise(spec.coefficient.metric, logits, self.temperatures, target)
        labels_B = self._labels(chunk, rows)

        names = [expert.name for expert in spec.model.experts]
        known = dict(zip(names, probabilities_MBC, strict=True))
        known |= output_ensembles(probabilities_MBC, log_e_BM, entropies_BM)
        sound = {f"{FINITE}expert '{n}'": finite(x) for n, x in zip(names, logits, strict=True)}
        if even is not None:
            known[EVEN] = even.softmax(dim=-1)
            sound[f"{FINITE}the evenly interpolated model"] = finite(even)

        def run(method: Method) -> torch.Tensor:
            if method.kind == "static":
                found = self.static[method.name](pixels, head)
            else:
                shares = coefficients_of(
                    method, logits, self.temperatures, even, labels_B,
                    (chunk.name, len(chunk.sample_ids), rows),
                )  # fmt: skip
                found = self.samplewise(
                    pixels, torch.from_numpy(shares.astype(np.float32)).to(self.device), head
                )
            found = classes.project(found)
            sound[f"{FINITE}the baseline '{method.name}'"] = finite(found)
            return found.softmax(dim=-1)

        columns = {
            "expert_prediction": probabilities_MBC.argmax(dim=-1).T.int(),
            "expert_confidence": probabilities_MBC.amax(dim=-1).T,
            "expert_entropy": entropies_BM,
            "log_expertise": log_e_BM,
        }
        if spec.baselines.even_interpolation:
            columns["even_prediction"] = even.argmax(dim=-1).int()
        return columns | compare(spec.methods, known, run, labels_B) | sound

    def _labels(self, chunk: Chunk, rows: slice) -> torch.Tensor | None:
        """Labels int64 [B], -1 where there is none; None without any."""
        labels = chunk.labels[rows]
        if all(label is None for label in labels):
            return None
        known = [-1 if label is None else label for label in labels]
        return torch.tensor(known, device=self.device)

    def _check_finite(
        self, sound: Mapping[str, torch.Tensor], scored: Mapping[str, torch.Tensor], chunk: Chunk
    ) -> None:
        """The models' logits first, as they tell which model it is; then what was made of them."""
        for name, fine in sound.items():
            if not fine.all():
                raise overflow(chunk, fine, name.removeprefix(FINITE), self.spec.precision)
        for name, values in scored.items():
            fine = torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
            if name not in OF_LABELS and not fine.all():
                made = f"{name}, which is made of the experts' logits,"
                raise overflow(chunk, fine, made, self.spec.precision)

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
        found = compare(methods, {}, run, labels_n, prefix="fit")
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
        self.model = SamplewiseClassifier(
            self.experts.skeleton,
            self.experts.states,
            base=self.experts.base,
            scale=spec.scale,
            rank=spec.exact_rank,
            device=self.device,
            dtype=self.dtype,
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
