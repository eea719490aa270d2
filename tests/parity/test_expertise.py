"""Coefficients equal the reference's, to 1e-5 (float32 entropies of up to ln C, C about 60)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dawin_ray.expertise import Moments, Offset, coefficients, log_expertise, pseudo_labels

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
