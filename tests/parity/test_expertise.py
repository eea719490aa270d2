"""Coefficients equal the reference's, to 1e-5 (float32 entropies of up to ln C, C about 60)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dawin_ray.method.coefficients import Offset, coefficients
from dawin_ray.method.expertise import entropy, log_expertise, pseudo_labels
from dawin_ray.method.outcomes import output_ensembles
from dawin_ray.method.streams import Moments

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "expertise.json").read_text())
LOGITS = np.load(HERE / "logits.npz")
METRICS = {
    "negexp_ent_ratio": "entropy",
    "negexp_loss_ratio": "cross_entropy",
    "maxlogit_ratio": "max_logit",
}
TARGETS = ("labels", "soft_ensemble", "soft_merged", "hard_ensemble", "hard_merged")
KEYS = [key for key in GOLDEN if key.split("|")[0] in METRICS]


def test_every_key_but_the_faulty_and_the_output_space_ones_is_covered():
    others = {key.split("|")[0] for key in GOLDEN} - METRICS.keys()
    assert others == {
        # faults of the reference
        "expconf_ratio", "expconfdiff_ratio",
        # accuracies of methods that merge outputs, not weights
        "selective_entropy", "selective_loss", "dynamic_output_ensemble",
    }  # fmt: skip
    assert len(KEYS) == 13


@pytest.mark.parametrize("key", KEYS)
def test_coefficients_equal_the_reference(key):
    name, offset_part, pseudo_part = key.split("|")
    experts = [torch.from_numpy(LOGITS[expert]) for expert in ("zero_shot", "fine_tuned")]
    temperatures = LOGITS["temperatures"].tolist()
    target = TARGETS[int(pseudo_part.removeprefix("pseudo="))]
    targets = (
        torch.from_numpy(LOGITS["labels"]).long()
        if target == "labels"
        else pseudo_labels(target, experts, temperatures, torch.from_numpy(LOGITS["merged"]))
    )
    log_e = log_expertise(METRICS[name], experts, temperatures, targets).numpy()
    offset = Offset.from_moments(Moments.of(-log_e)) if offset_part == "offset=1" else None

    ours = coefficients(log_e, offset)

    np.testing.assert_allclose(ours[:, 1], np.ravel(GOLDEN[key]["coefficient"]), atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("offset", [0, 1])
def test_the_dynamic_output_ensemble_equals_the_reference(offset):
    """Their accuracy, to the last sample: probabilities weighed with the sample's coefficients."""
    probabilities = outputs()
    log_e = -torch.stack([entropy(p.log()) for p in probabilities], dim=-1).numpy()
    shift = Offset.from_moments(Moments.of(-log_e)) if offset else None
    weights = np.log(coefficients(log_e, shift))  # as expertises without an offset
    found = output_ensembles(
        probabilities, torch.from_numpy(weights).float(), torch.from_numpy(-log_e)
    )
    assert accuracy(found["dynamic_output_ensemble"].argmax(dim=1)) == pytest.approx(
        GOLDEN[f"dynamic_output_ensemble|offset={offset}"]["accuracy"], abs=1e-7
    )


def test_selection_equals_the_reference():
    probabilities = outputs()
    h = torch.stack([entropy(p.log()) for p in probabilities], dim=-1)
    found = output_ensembles(probabilities, -h, h)["selection"].argmax(dim=1)
    assert accuracy(found) == pytest.approx(
        GOLDEN["selective_entropy|offset=0|pseudo=0"]["accuracy"], abs=1e-7
    )
    # by the loss of the true label it is the oracle's selection
    rows = torch.arange(len(found))
    losses = -probabilities[:, rows, torch.from_numpy(LOGITS["labels"]).long()].log().T
    found = output_ensembles(probabilities, -losses, losses)["selection"].argmax(dim=1)
    assert accuracy(found) == pytest.approx(
        GOLDEN["selective_loss|offset=0|pseudo=0"]["accuracy"], abs=1e-7
    )


def outputs() -> torch.Tensor:
    """Class probabilities [M, N, C] at the reference's temperatures."""
    return torch.stack(
        [
            torch.softmax(torch.from_numpy(LOGITS[name]) / temperature, dim=-1)
            for name, temperature in zip(
                ("zero_shot", "fine_tuned"), LOGITS["temperatures"].tolist(), strict=True
            )
        ]
    )


def accuracy(predictions: torch.Tensor) -> float:
    """Share of right ones; the reference's figures are this in float32."""
    return (predictions.numpy() == LOGITS["labels"]).mean()
