"""Does anchoring the coefficients to a reference help? The demo's suite, retrained experts.

    for s in 10 20 30 40; do python jobs/train_demo_experts.py --seed $s --out seeds/$s; done
    python jobs/study_reference.py dawin_ray/demo seeds/*

Each folder holds the two experts of one seed. For every rule of coefficients each sample is
predicted with its own weights (the exact mode), so that no mixture is in the way. The reference is
the clean test set, without its labels; fine-tuning never saw it. Printed: accuracies in per cent,
clean and mean over the shifts, by seed and as mean over the seeds; and the paired difference to
DaWin over all samples of all shifts and seeds, with its bootstrap interval (optimistic, as the
seeds share their test images).

Measured for seeds 0 (the demo's experts), 10 and 20; mean over the shifts of each, their mean,
clean accuracy, and points to DaWin:

    zero_shot                  88.2 88.5 87.0 | 87.9 | 95.9 | +1.2 [+0.8, +1.7]
    fine_tuned                 79.1 77.1 72.3 | 76.2 | 98.5 | -10.5 [-11.0, -10.0]
    even                       87.2 87.6 84.0 | 86.2 | 98.3 | -0.5 [-0.6, -0.3]
    dawin                      87.6 87.9 84.5 | 86.7 | 98.4 | +0.0 [+0.0, +0.0]
    dawin, offset              87.9 88.4 85.2 | 87.1 | 98.6 | +0.5 [+0.3, +0.6]
    oracle                     92.9 93.2 92.0 | 92.7 | 99.0 | +6.0 [+5.7, +6.4]
    reference 0.5              88.5 89.0 86.2 | 87.9 | 98.4 | +1.2 [+1.0, +1.4]
    reference 1                89.2 89.6 87.0 | 88.6 | 98.4 | +1.9 [+1.6, +2.2]
    reference 2                89.4 89.8 87.4 | 88.9 | 98.4 | +2.2 [+1.9, +2.6]
    reference, floor 0.001     90.6 90.3 89.2 | 90.0 | 98.4 | +3.3 [+3.0, +3.7]
    reference, floor 0.01      89.2 89.6 87.0 | 88.6 | 98.4 | +1.9 [+1.6, +2.2]
    reference, floor 0.1       88.7 88.9 86.6 | 88.1 | 98.4 | +1.4 [+1.2, +1.6]
    reference, mean            89.9 90.2 88.4 | 89.5 | 98.4 | +2.8 [+2.5, +3.2]
    reference, trimmed mean    90.1 90.2 88.4 | 89.6 | 98.4 | +2.9 [+2.6, +3.2]
    reference, batches of 16   88.7 89.0 86.5 | 88.1 | 98.6 | +1.4 [+1.1, +1.7]
    reference, batches of 64   89.1 89.5 86.8 | 88.5 | 98.4 | +1.8 [+1.5, +2.1]

The floor of 0.01 nats and the median were fixed before; that others do better here is no ground
to choose them on the same data. Not studied yet: a second suite, four experts, experts that are
equally good, a shifted reference, mixed domains.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dawin_ray import statistics
from dawin_ray.demo import CHECKPOINTS
from dawin_ray.demo.datasets import DATASETS, make_test_set
from dawin_ray.demo.job import model_spec
from dawin_ray.expertise import Moments, Offset, coefficients, entropy_growth
from dawin_ray.models import CHECKPOINT_HEAD, load_experts
from dawin_ray.samplewise import SamplewiseClassifier

CLEAN, *SHIFTS = DATASETS
BATCH = 256
FLOORS = (1e-3, 1e-2, 1e-1)  # of the medians, in nats


def growth_of(
    statistic: Callable, h_NM: np.ndarray, reference_NM: np.ndarray, floor: float, strength: float
) -> np.ndarray:
    """As `entropy_growth`, with another statistic or floor."""
    here, there = (np.maximum(statistic(h, axis=0), floor) for h in (h_NM, reference_NM))
    return strength * np.log(here / there)


def trimmed(h_NM: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the middle 80 %."""
    low, high = np.quantile(h_NM, [0.1, 0.9], axis=axis)
    inside = (h_NM >= low) & (h_NM <= high)
    return np.where(inside, h_NM, 0).sum(axis=axis) / inside.sum(axis=axis)


def rules(h: np.ndarray, reference: np.ndarray, losses: np.ndarray) -> Mapping[str, np.ndarray]:
    """Coefficients [N, M] by name, from entropies [N, M] here and on the reference."""
    count, experts = h.shape
    found = {
        "even": np.full((count, experts), 1 / experts),
        "dawin": coefficients(-h),
        "dawin, offset": coefficients(-h, Offset.from_moments(Moments.of(h))),
        "oracle": coefficients(-losses),
    }
    for strength in (0.5, 1.0, 2.0):
        growth = entropy_growth(np.median(h, axis=0), np.median(reference, axis=0), strength)
        found[f"reference {strength:g}"] = coefficients(-h, growth_M=growth)
    for floor in FLOORS:
        growth = growth_of(np.median, h, reference, floor, 1.0)
        found[f"reference, floor {floor:g}"] = coefficients(-h, growth_M=growth)
    for name, statistic in (("mean", np.mean), ("trimmed mean", trimmed)):
        growth = growth_of(statistic, h, reference, FLOORS[1], 1.0)
        found[f"reference, {name}"] = coefficients(-h, growth_M=growth)
    for size in (16, 64):  # as if the data came in batches of so many
        parts = []
        for start in range(0, count, size):
            part = h[start : start + size]
            growth = entropy_growth(np.median(part, axis=0), np.median(reference, axis=0))
            parts.append(coefficients(-part, growth_M=growth))
        found[f"reference, batches of {size}"] = np.concatenate(parts)
    return found


@torch.inference_mode()
def study(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """By rule and data set, which samples are right [N], with the experts of a folder."""
    experts = load_experts(model_spec(folder))
    cpu = torch.device("cpu")
    models = [experts.classifier(state, cpu, torch.float32) for state in experts.states]
    exact = SamplewiseClassifier(experts.skeleton, experts.states)
    crop = experts.preprocessing.crop()
    right: dict[str, dict[str, np.ndarray]] = {}
    reference = None
    for dataset in DATASETS:
        images, labels = make_test_set(dataset)
        crops = torch.from_numpy(np.stack([crop(Image.fromarray(image)) for image in images]))
        pixels = experts.preprocessing.normalise(crops)
        logits = [torch.cat([m(part) for part in pixels.split(BATCH)]) for m in models]
        log_p = torch.stack([x.log_softmax(dim=-1) for x in logits], dim=1)  # [N, M, C]
        h = -(log_p.exp() * log_p).sum(dim=-1).double().numpy()
        losses = -log_p[torch.arange(len(labels)), :, torch.from_numpy(labels)].double().numpy()
        reference = h if reference is None else reference
        for name, x in zip(CHECKPOINTS, logits, strict=True):
            right.setdefault(name, {})[dataset] = x.argmax(dim=-1).numpy() == labels
        for name, shares in rules(h, reference, losses).items():
            weights = torch.from_numpy(shares.astype(np.float32))
            answers = torch.cat(
                [
                    exact(p, w, CHECKPOINT_HEAD).argmax(dim=-1)
                    for p, w in zip(pixels.split(BATCH), weights.split(BATCH), strict=True)
                ]
            )
            right.setdefault(name, {})[dataset] = answers.numpy() == labels
    return right


def main() -> None:
    """Study each folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    studies = [study(folder) for folder in parser.parse_args().folders]
    print(f"{len(studies)} seeds; mean over {len(SHIFTS)} shifts by seed | mean | clean | to DaWin")
    for name in studies[0]:
        shifts = [np.mean([s[name][d].mean() for d in SHIFTS]) for s in studies]
        clean = np.mean([s[name][CLEAN].mean() for s in studies])
        counts = []
        for s in studies:
            for d in SHIFTS:
                ours, theirs = s[name][d], s["dawin"][d]
                counts.append((int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours)))
        found = statistics.paired_differences(counts)
        by_seed = " ".join(f"{100 * a:.1f}" for a in shifts)
        print(
            f"{name:26s} {by_seed} | {100 * np.mean(shifts):.1f} | {100 * clean:.1f} | "
            f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        )


if __name__ == "__main__":
    main()
