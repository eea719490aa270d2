"""How far to trust each expert on a sample: logits -> expertise -> interpolation coefficients.

Shapes: N samples, M experts, C classes. Entropies are in nats. Nothing here needs labels but the
oracle (`cross_entropy` against `labels`), and nothing changes its arguments.

Source: DaWin, section 4, and dawin_rft/main_dawin.py, lines 38-135, of naver-ai/dawin at commit
310e0e1. Deviations are stated where they occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

Metric = Literal["entropy", "cross_entropy", "max_logit", "confidence", "margin"]

Target = Literal["labels", "soft_ensemble", "hard_ensemble", "soft_merged", "hard_merged"]

# A maximum logit at or below zero has no meaning as a share. The reference divides by it all the
# same and leaves [0, 1]; we floor it instead, which hands the sample to the other experts.
MIN_MAX_LOGIT = 1e-6


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


def log_expertise(
    metric: Metric,
    logits_MNC: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    target: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logarithm of each expert's expertise, float32 [N, M].

    | metric        | expertise e                               |
    |---------------|-------------------------------------------|
    | entropy       | exp(-H(softmax(logits / T)))              |
    | cross_entropy | exp(-CE(logits, target))                  |
    | max_logit     | max logit, at least MIN_MAX_LOGIT         |
    | confidence    | exp(max softmax(logits / T))              |
    | margin        | exp(difference of the two largest probabilities) |

    The reference reads the zero-shot logits for both models in the last two; here each expert is
    measured on its own.
    """
    columns = []
    for logits, temperature in zip(logits_MNC, temperatures, strict=True):
        if metric == "entropy":
            columns.append(-entropy(logits, temperature))
        elif metric == "cross_entropy":
            if target is None:
                raise ValueError("metric cross_entropy needs a target")
            columns.append(-cross_entropy(logits, target))
        elif metric == "max_logit":
            columns.append(logits.float().amax(dim=-1).clamp(min=MIN_MAX_LOGIT).log())
        else:
            probabilities = F.softmax(logits.float() / temperature, dim=-1)
            if metric == "confidence":
                columns.append(probabilities.amax(dim=-1))
            else:
                top_two = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
                columns.append(2 * top_two[:, 0] - top_two.sum(dim=-1))
    return torch.stack(columns, dim=-1)
