"""Pass 1: what each expert says of a chunk's samples, how far to trust it, and the baselines.

Shapes: n samples of a chunk, B batch, M experts, C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.data import Chunk
from dawin_ray.errors import UserError
from dawin_ray.method import (
    EVEN,
    Method,
    SamplewiseClassifier,
    coefficients_of,
    compare_methods,
    entropy,
    log_expertise,
    output_ensembles,
    pseudo_labels,
    static_weights,
)
from dawin_ray.models import Classifier, Experts, load_experts, matmul_mode, tower_dtype
from dawin_ray.passes.looks import looks_of
from dawin_ray.passes.overflow import FINITE, finite, overflow
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.spec import ScoringSpec

OF_LABELS = {"baseline_nll", "baseline_brier"}  # NaN where there is no label


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
        self.static: dict[str, Classifier] = {
            method.name: experts.classifier(
                static_weights(method, experts.states, experts.base, spec.scale, spec.trim),
                self.device,
                dtype,
                f"the static model '{method.name}'",
            )
            for method in spec.methods
            if method.merges
        }
        self.samplewise: SamplewiseClassifier | None = None
        if any(method.kind == "samplewise" for method in spec.methods):
            self.samplewise = experts.samplewise(spec.scale, device=self.device, dtype=dtype)

    @torch.inference_mode()
    def __call__(self, chunk: Chunk) -> pa.Table:
        """A table of `tables.EXPERTS`, one row a sample, in the chunk's order."""
        parts = equal_parts(len(chunk.sample_ids), self.spec.batch_size)
        rows = [slice(part[0], part[-1] + 1) for part in parts]
        with matmul_mode(self.spec.precision):
            scores = [
                self._score(chunk, part, pixels)
                for part, pixels in zip(rows, self.feed(chunk.images, rows), strict=True)
            ]
        columns = {"sample_id": chunk.sample_ids, "label": chunk.labels}
        if scores:
            columns |= looks_of(chunk.images)  # while a GPU is at its forwards
            # copied to the host once a chunk: until here a GPU is never waited for
            scored = {name: torch.cat([part[name] for part in scores]).cpu() for name in scores[0]}
            sound = {name: scored.pop(name) for name in list(scored) if name.startswith(FINITE)}
            self._check_finite(sound, scored, chunk)
            columns |= {name: values.numpy() for name, values in scored.items()}
        return tables.table(tables.EXPERTS, columns)

    def _score(self, chunk: Chunk, rows: slice, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        spec = self.spec
        task = spec.tasks[chunk.dataset]
        classes, head = task.classes, task.head
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
        for method in spec.methods:
            same = task.expert if method.uses_task else method.same_as
            if same is not None:
                known[method.name] = known[same]

        def run(method: Method) -> torch.Tensor:
            if method.kind == "static":
                found = self.static[method.name](pixels, head)
            else:
                shares = coefficients_of(
                    method, logits, self.temperatures, even, labels_B,
                    (chunk.name, len(chunk.sample_ids), rows),
                )  # fmt: skip
                assert self.samplewise is not None, "it is made where a method needs it"
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
        if spec.baselines.even_interpolation and even is not None:
            columns["even_prediction"] = even.argmax(dim=-1).int()
        return columns | compare_methods(spec.methods, known, run, labels_B) | sound

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
