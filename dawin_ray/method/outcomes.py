"""What a method makes of samples: coefficients, probabilities, and the scores of a prediction.

The arithmetic of what `baselines.py` lists: output ensembles, controls, and the columns that every
compared method has. Torch, on the device of the logits.

Shapes: B batch, M experts, C classes, Q methods.

Source: as of `baselines.py`; the controls are those of dawin_rft/main_dawin.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from dawin_ray.method.baselines import NORMAL_CONTROLS, Method
from dawin_ray.method.coefficients import coefficients
from dawin_ray.method.expertise import log_expertise, pseudo_labels

RANDOM_SEED = 0  # of the controls

NORMAL_LIMITS = (0.01, 0.99)  # the reference's clamp of the normal ones

TINY = torch.finfo(torch.float32).tiny  # so that the log loss of a probability of 0 is finite


def random_coefficients(name: str, key: str, count: int, experts: int) -> np.ndarray:
    """Coefficients [count, M] of a random control; the same for the same method and `key`.

    Uniform, or N(0.5, 0.2) and N(0.8, 0.1) clamped to [0.01, 0.99] as in the reference.
    """
    draw = np.random.default_rng([RANDOM_SEED, zlib.crc32(f"{name}/{key}".encode())])
    if name == "random_uniform":  # on the simplex; for M = 2 uniform in [0, 1]
        return draw.dirichlet(np.ones(experts), size=count)
    mean = float(name.rsplit("_", 1)[1])
    last = draw.normal(mean, NORMAL_CONTROLS[mean], size=count).clip(*NORMAL_LIMITS)
    return np.stack([1 - last, last], axis=1)


def output_ensembles(
    probabilities_MBC: torch.Tensor, log_e_BM: torch.Tensor, entropies_BM: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Class probabilities [B, C] of the methods that combine outputs.

    The dynamic ensemble weighs the experts' probabilities with the sample's own coefficients,
    without an offset, which is not known yet; the selection is the expert of the lowest entropy,
    the first of equal ones.
    """
    weights_BM = torch.softmax(log_e_BM, dim=-1)
    chosen_B = entropies_BM.argmin(dim=-1)
    rows = torch.arange(len(chosen_B), device=chosen_B.device)
    return {
        "even_output_ensemble": probabilities_MBC.mean(dim=0),
        "dynamic_output_ensemble": torch.einsum("bm,mbc->bc", weights_BM, probabilities_MBC),
        "selection": probabilities_MBC[chosen_B, rows],
    }


def outcome(
    probabilities_BC: torch.Tensor, labels_B: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Prediction, confidence, and (NaN where a label is negative) log loss and Brier score [B].

    The Brier score is the sum over classes of (p - y)^2, in [0, 2].
    """
    confidence, prediction = probabilities_BC.max(dim=-1)
    nll = brier = torch.full_like(confidence, torch.nan)
    if labels_B is not None:
        known = labels_B >= 0
        of_label = probabilities_BC.gather(1, labels_B.clamp(min=0)[:, None])[:, 0]
        loss = -of_label.clamp(min=TINY).log()
        squares = probabilities_BC.square().sum(dim=-1) - 2 * of_label + 1
        nll, brier = torch.where(known, loss, nll), torch.where(known, squares, brier)
    return {"prediction": prediction.int(), "confidence": confidence, "nll": nll, "brier": brier}


def coefficients_of(
    method: Method,
    logits: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    even: torch.Tensor | None,
    labels_B: torch.Tensor | None,
    where: tuple[str, int, slice],
) -> np.ndarray:
    """Coefficients [B, M] of a samplewise method; even where it needs a label and there is none.

    `where` is the samples' chunk, its size and their rows in it, on which random ones depend.
    """
    count, experts = len(logits[0]), len(logits)
    if method.coefficient is None:
        chunk, size, rows = where
        return random_coefficients(method.name, chunk, size, experts)[rows]
    target = method.coefficient.target
    known: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    if target == "labels":
        if labels_B is None:
            return np.full((count, experts), 1 / experts)
        known, targets = labels_B >= 0, labels_B.clamp(min=0)
    elif target is not None:
        targets = pseudo_labels(target, logits, temperatures, even)
    log_e = log_expertise(method.coefficient.metric, logits, temperatures, targets)
    found = coefficients(log_e.cpu().numpy())
    if known is not None:
        found[~known.cpu().numpy()] = 1 / experts
    return found


def compare_methods(
    methods: Sequence[Method],
    probabilities: Mapping[str, torch.Tensor],
    run: Callable[[Method], torch.Tensor],
    labels_B: torch.Tensor | None,
    prefix: str = "baseline",
) -> dict[str, torch.Tensor]:
    """Columns [B, Q] of the methods: of `probabilities` where they are there, else of `run`.

    A method that uses labels predicts -1 where there is none.
    """
    outcomes = []
    for method in methods:
        given = probabilities.get(method.name)
        found = outcome(run(method) if given is None else given, labels_B)
        if method.uses_labels:
            known = torch.zeros_like(found["prediction"]).bool() if labels_B is None else (
                labels_B >= 0
            )  # fmt: skip
            found["prediction"] = torch.where(known, found["prediction"], -1)
        outcomes.append(found)
    return {
        f"{prefix}_{name}": torch.stack([found[name] for found in outcomes], dim=-1)
        for name in outcomes[0]
    }
