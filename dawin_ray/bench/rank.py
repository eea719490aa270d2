"""What the exact mode loses when the experts' differences are limited in rank, on trained experts.

The demo's fine-tuned expert was tuned in full, not with LoRA: its differences have no exact low
rank, so this is the hard case. The tower is 96 wide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.demo.datasets import DATASETS, make_test_set
from dawin_ray.demo.job import model_spec
from dawin_ray.method import log_expertise
from dawin_ray.models import CHECKPOINT_HEAD, load_experts

RANKS = (2, 4, 8, 16, 32, 64)


@torch.inference_mode()
def figures(config: BenchConfig) -> Iterator[Figure]:
    """Agreement with full rank over the demo's data sets, and accuracy, for each rank."""
    experts = load_experts(model_spec())
    cpu = torch.device("cpu")
    models = [experts.classifier(state, cpu, torch.float32) for state in experts.states]
    full = experts.samplewise()
    crop = experts.preprocessing.crop
    batches = []
    for name in DATASETS:
        images, labels_N = make_test_set(name)
        crops = torch.from_numpy(np.stack([crop(Image.fromarray(image)) for image in images]))
        pixels = experts.preprocessing.normalise(crops)
        logits = [model(pixels) for model in models]
        shares = log_expertise("entropy", logits, [1.0, 1.0]).softmax(dim=-1)
        predicted = full(pixels, shares, CHECKPOINT_HEAD).argmax(dim=-1)
        batches.append((pixels, shares, predicted, torch.from_numpy(labels_N)))
    labels = torch.cat([batch[3] for batch in batches])
    expected = torch.cat([batch[2] for batch in batches])
    for rank in RANKS:
        limited = experts.samplewise(rank=rank)
        found = torch.cat(
            [limited(p, shares, CHECKPOINT_HEAD).argmax(dim=-1) for p, shares, _, _ in batches]
        )
        yield Figure(
            section="rank",
            name=f"rank {rank}: agrees with full rank",
            value=100 * float(torch.eq(found, expected).float().mean()),
            unit="%",
            note=f"accuracy {100 * float(torch.eq(found, labels).float().mean()):.1f} %, full rank "
            f"{100 * float(torch.eq(expected, labels).float().mean()):.1f} %",
        )
