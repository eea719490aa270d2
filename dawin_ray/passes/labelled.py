"""What experts and models between them say of a few labelled samples: no table, no file.

Shapes: N samples of a data set, M experts, C classes, G models of the grid, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from dawin_ray.method import TENTHS, merge
from dawin_ray.models import Classifier, Experts, load_experts, matmul_mode, tower_dtype
from dawin_ray.passes.pixels import PixelFeed, equal_parts
from dawin_ray.passes.spec import ScoringSpec


class FewSamples:
    """Crops of each data set, uint8 [N, H, W, 3], and the models that are asked of them."""

    def __init__(
        self, spec: ScoringSpec, crops: Mapping[str, np.ndarray], experts: Experts | None = None
    ):
        """Loads the experts."""
        self.spec, self.crops = spec, crops
        self.experts = experts or load_experts(spec.model)
        self.device, self.dtype = torch.device(spec.device), tower_dtype(spec.precision)
        self.feed = PixelFeed(self.experts.preprocessing, self.device, self.dtype)
        self.forwards = self.exact_forwards = 0
        self._samplewise: torch.nn.Module | None = None

    def logits(self) -> dict[str, np.ndarray]:
        """The experts' logits of each data set, float32 [N, M, C], without temperature."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.crops}
        for expert, state in zip(self.spec.model.experts, self.experts.states, strict=True):
            model = self._classifier(state, f"expert '{expert.name}'")
            for name, of_expert in self._asked(model).items():
                found[name].append(of_expert)
        return {name: np.stack(of_set, axis=1) for name, of_set in found.items()}

    def tenths(self) -> dict[str, np.ndarray]:
        """Predictions of each data set by the models at TENTHS of two experts, int64 [N, G]."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.crops}
        for share in TENTHS:
            state = merge(
                self.experts.states,
                [1 - share, share],
                base=self.experts.base,
                scale=self.spec.scale,
            )
            model = self._classifier(state, f"the model merged with weight {share:g}")
            for name, logits in self._asked(model).items():
                found[name].append(logits.argmax(axis=1))
        return {name: np.stack(of_set, axis=1) for name, of_set in found.items()}

    @torch.inference_mode()
    def exact(self, dataset: str, rows_n: np.ndarray, shares_nM: np.ndarray) -> np.ndarray:
        """Predictions int64 [n] of rows of a data set by the model of each one's coefficients."""
        if self._samplewise is None:
            self._samplewise = self.experts.samplewise(
                self.spec.scale, device=self.device, dtype=self.dtype
            )
        self.exact_forwards += len(rows_n)
        task = self.spec.tasks[dataset]
        shares = torch.from_numpy(shares_nM.astype(np.float32)).to(self.device)
        parts = equal_parts(len(rows_n), self.spec.batch_size)
        with matmul_mode(self.spec.precision):
            found = [
                task.classes.project(self._samplewise(pixels, shares[part], task.head))
                for part, pixels in zip(
                    parts, self.feed(self.crops[dataset][rows_n], parts), strict=True
                )
            ]
        return torch.cat(found).argmax(dim=-1).cpu().numpy()

    def _classifier(self, state: Mapping[str, torch.Tensor], what: str) -> Classifier:
        return self.experts.classifier(dict(state), self.device, self.dtype, what)

    @torch.inference_mode()
    def _asked(self, model: Classifier) -> dict[str, np.ndarray]:
        found = {}
        for name, crops in self.crops.items():
            task = self.spec.tasks[name]
            parts = equal_parts(len(crops), self.spec.batch_size)
            with matmul_mode(self.spec.precision):
                logits = [
                    task.classes.project(model(pixels, task.head)).float()
                    for pixels in self.feed(crops, parts)
                ]
            self.forwards += len(crops)
            found[name] = torch.cat(logits).cpu().numpy()
        return found
