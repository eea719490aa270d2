"""Weights of heads: read from a file, taken from a checkpoint, or made by a text tower.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from dawin_ray.errors import UserError
from dawin_ray.method import check_mergeable
from dawin_ray.models import clip
from dawin_ray.models.architecture import OpenClipModel, register
from dawin_ray.models.checkpoints import read_tensors
from dawin_ray.models.heads import HEAD_EACH
from dawin_ray.models.layouts import HEAD, Tensors, head_names
from dawin_ray.models.spec import HeadSpec, ModelSpec
from dawin_ray.models.texts import prompts
from dawin_ray.models.weights import check_types


@dataclass(frozen=True, kw_only=True)
class HeadMaker:
    """Makes the heads of a job: each is `heads.<key>.weight` [C, features] and `.bias` [C]."""

    spec: ModelSpec
    model: OpenClipModel  # whose weights are those of the text tower that was last used
    features: int

    def own(self, head: HeadSpec, tensors: Mapping[str, torch.Tensor], name: str) -> Tensors:
        """Of the expert `name`: the head that it was saved with, or that its text tower makes.

        Raises:
            UserError: it has none, or its text tower does not fit the architecture.
        """
        address = self.spec.checkpoints[name]
        if head.zero_shot:
            return self._named(head, self._zero_shot(tensors, head, name, address), None)
        weight, bias = tensors.get(f"{HEAD}.weight"), tensors.get(f"{HEAD}.bias")
        if weight is None:
            raise UserError(
                f"The checkpoint of '{name}' ({address!r}) has no {HEAD}.weight, which the "
                "other experts have. Save all experts with their heads, or use head: zero_shot."
            )
        self._check(weight, bias, name, address)
        return self._named(head, weight, bias)

    def shared(self, head: HeadSpec, base: Mapping[str, torch.Tensor] | None) -> Tensors:
        """One for all models: of a file, or made by the text tower of `base`.

        Raises:
            UserError: the file is missing, another than it was, or holds no head of this
                architecture; or the base has no text tower.
        """
        if head.file is None:
            assert base is not None, "a head is made by the base only where there is one"
            address = self.spec.checkpoints["merge.base"]
            return self._named(head, self._zero_shot(base, head, "merge.base", address), None)
        tensors = read_tensors(head.file, head.sha256)
        weight, bias = (tensors.get(n) for n in head_names(tensors, head.file))
        assert weight is not None, "its name was found"
        self._check(weight, bias, "datasets[].head", head.file)
        check_mergeable({head.file: {f"{HEAD}.weight": weight}})  # its values are finite
        return self._named(head, weight, bias)

    def _named(self, head: HeadSpec, weight: torch.Tensor, bias: torch.Tensor | None) -> Tensors:
        return {
            f"heads.{head.key}.weight": weight,
            f"heads.{head.key}.bias": torch.zeros(len(weight)) if bias is None else bias,
        }

    def _check(
        self, weight: torch.Tensor, bias: torch.Tensor | None, name: str, address: str
    ) -> None:
        parts = {f"{HEAD}.weight": weight} | ({} if bias is None else {f"{HEAD}.bias": bias})
        check_types(parts, dict.fromkeys(parts, torch.zeros(1)), name, address)
        if weight.ndim != 2 or weight.shape[1] != self.features:
            raise UserError(
                f"Tensor '{HEAD}.weight' of '{name}' has shape {list(weight.shape)}; expected "
                f"[classes, {self.features}] for the features of "
                f"{self.spec.config.architecture!r}."
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise UserError(
                f"Tensor '{HEAD}.bias' of '{name}' has shape {list(bias.shape)}; expected "
                f"[{len(weight)}] for the classes of its weight. Save the whole head again."
            )

    def _zero_shot(
        self, tensors: Mapping[str, torch.Tensor], head: HeadSpec, name: str, address: str
    ) -> torch.Tensor:
        """Weight [C, features] of prompts' embeddings by a checkpoint's text tower, scaled.

        Each prompt's is normalised; a class's are averaged and normalised again; all are times
        exp(logit_scale), as dawin_mtl/src/heads.py of the reference has them.
        """
        model = self.model
        state = {k: v for k, v in tensors.items() if not k.startswith(HEAD)}
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = clip.model.convert_to_custom_text_state_dict(state)
        for scalar in ("logit_scale", "logit_bias"):  # some have them as a number, some as a list
            if scalar in state and getattr(model, scalar, None) is not None:
                state[scalar] = state[scalar].reshape(getattr(model, scalar).shape)
        architecture = self.spec.config.architecture
        check_types(state, model.state_dict(), name, address)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            hint = f" {HEAD_EACH}." if head.of_base else ""
            raise UserError(
                f"The checkpoint of '{name}' ({address!r}) cannot make a zero-shot head, because "
                f"its text tower does not fit {architecture!r}: {error}{hint}"
            ) from error
        tokenizer = _tokenizer(register(architecture, self.spec.digests.get(architecture)))
        weight = clip.build_zero_shot_classifier(
            model.eval(), tokenizer, head.class_names, prompts(head.templates or ())
        ).T
        scaled: torch.Tensor = (model.logit_scale.detach().exp() * weight).contiguous()
        return scaled


@cache
def _tokenizer(name: str) -> Callable[[list[str]], torch.Tensor]:
    """Of a registered architecture: it takes as long to build as a small head."""
    tokenizer: Callable[[list[str]], torch.Tensor] = clip.get_tokenizer(name)
    return tokenizer
