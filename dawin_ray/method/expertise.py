"""How far to trust each expert on a sample: logits -> log expertise.

Shapes: N samples, M experts, C classes. Entropies are in nats. Nothing here needs labels but the
oracle (`cross_entropy` against `labels`), and nothing changes its arguments. What becomes of the
expertise is in `coefficients.py`.

Source: DaWin, section 4, and dawin_rft/main_dawin.py, lines 38-135, of naver-ai/dawin at commit
310e0e1. Deviations are stated where they occur.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

Target = Literal["labels", "soft_ensemble", "hard_ensemble", "soft_merged", "hard_merged"]

# A maximum logit at or below zero has no meaning as a share. The reference divides by it all the
# same and leaves [0, 1]; we floor it instead, which hands the sample to the other experts.
MIN_MAX_LOGIT = 1e-6


def log_expertise(
    metric: Metric,
    logits_MNC: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    target: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logarithm of each expert's expertise, float32 [N, M]; `METRICS` has what each metric is."""
    measure = METRICS[metric].log_expertise
    pairs = zip(logits_MNC, temperatures, strict=True)
    return torch.stack([measure(logits, t, target) for logits, t in pairs], dim=-1)


def entropy(logits_NC: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Entropy in nats [N] of softmax(logits / temperature), in float32; in [0, ln C]."""
    log_probabilities = F.log_softmax(logits_NC.float() / temperature, dim=-1)
    # clamp: p ln p is exactly 0 for p = 0, but 0 * -inf (logits of -inf) would be NaN
    terms = log_probabilities.exp() * log_probabilities.clamp(min=torch.finfo(torch.float32).min)
    # the sum of a one-hot prediction is -0.0 or a rounding error below it
    return (-terms.sum(dim=-1)).clamp(min=0.0)


def cross_entropy(logits_NC: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats [N] of the raw logits, as the reference takes it.

    `target` is int64 [N], or probabilities [N, C].
    """
    return F.cross_entropy(logits_NC.float(), target, reduction="none")


def pseudo_labels(
    target: Target,
    logits_MNC: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    merged_logits_NC: torch.Tensor | None = None,
) -> torch.Tensor:
    """Targets for `cross_entropy`: probabilities [N, C] (soft) or classes int64 [N] (hard).

    `*_ensemble` averages the experts' tempered outputs; `*_merged` takes the output of the evenly
    merged model, which has no temperature.

    Raises:
        ValueError: for `labels`, which are no pseudo labels, and without the logits it needs.
    """
    if target == "labels":
        raise ValueError("the true labels are no pseudo labels; pass them on as they are")
    if target.endswith("_ensemble"):
        probabilities = torch.stack(
            [
                F.softmax(logits.float() / t, dim=-1)
                for logits, t in zip(logits_MNC, temperatures, strict=True)
            ]
        ).mean(dim=0)
    elif merged_logits_NC is None:
        raise ValueError(f"{target} needs the logits of the evenly merged model")
    else:
        probabilities = F.softmax(merged_logits_NC.float(), dim=-1)
    return probabilities if target.startswith("soft") else probabilities.argmax(dim=-1)


# One expert's logits [N, C], temperature and target -> its log expertise float32 [N].
Measure = Callable[[torch.Tensor, float, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class ExpertiseMetric:
    """A way to measure expertise, and what goes with it.

    `adjustable`: `offset_adjustment` is defined for it, as -log e is an uncertainty whose mean and
    deviation have a meaning.
    """

    log_expertise: Measure
    adjustable: bool = False
    needs_target: bool = False


def _of_entropy(
    logits_NC: torch.Tensor, temperature: float, target: torch.Tensor | None
) -> torch.Tensor:
    """e = exp(-H(softmax(logits / T))), the paper's."""
    return -entropy(logits_NC, temperature)


def _of_cross_entropy(
    logits_NC: torch.Tensor, temperature: float, target: torch.Tensor | None
) -> torch.Tensor:
    """e = exp(-CE(logits, target))."""
    if target is None:
        raise ValueError("metric cross_entropy needs a target")
    return -cross_entropy(logits_NC, target)


def _of_max_logit(
    logits_NC: torch.Tensor, temperature: float, target: torch.Tensor | None
) -> torch.Tensor:
    """e = max logit, at least MIN_MAX_LOGIT."""
    return logits_NC.float().amax(dim=-1).clamp(min=MIN_MAX_LOGIT).log()


def _of_confidence(
    logits_NC: torch.Tensor, temperature: float, target: torch.Tensor | None
) -> torch.Tensor:
    """e = exp(max softmax(logits / T)). (The reference reads the zero-shot logits for all.)"""
    return F.softmax(logits_NC.float() / temperature, dim=-1).amax(dim=-1)


def _of_margin(
    logits_NC: torch.Tensor, temperature: float, target: torch.Tensor | None
) -> torch.Tensor:
    """e = exp(difference of the two largest probabilities). (The reference: as for confidence.)"""
    probabilities = F.softmax(logits_NC.float() / temperature, dim=-1)
    top_two = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
    return 2 * top_two[:, 0] - top_two.sum(dim=-1)


# All that job files and reports know of metrics; a new one is a function and an entry.
METRICS = {
    "entropy": ExpertiseMetric(log_expertise=_of_entropy, adjustable=True),
    "cross_entropy": ExpertiseMetric(
        log_expertise=_of_cross_entropy, adjustable=True, needs_target=True
    ),
    "max_logit": ExpertiseMetric(log_expertise=_of_max_logit),
    "confidence": ExpertiseMetric(log_expertise=_of_confidence),
    "margin": ExpertiseMetric(log_expertise=_of_margin),
}

# A job file's type follows the table; a type checker cannot read it from there.
if TYPE_CHECKING:
    Metric = str
else:
    Metric = Literal[tuple(METRICS)]
