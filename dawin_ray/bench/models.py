"""The price of each mode in forwards of one model, and what lower precision costs in agreement.

Runs on a CPU or a GPU, with pixels on the device: no decoding, no Ray, no file. The experts are one
random tower and neighbours of it; the head holds prototypes of random images, so that predictions
have margins like a trained model's.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import get_args

import numpy as np
import torch

from dawin_ray.bench import BenchConfig, Figure, chosen_device, interleaved, median_ratio
from dawin_ray.errors import UserError
from dawin_ray.method import interpolate, log_expertise
from dawin_ray.models import (
    CHECKPOINT_HEAD,
    Classifier,
    Experts,
    ModelConfig,
    Precision,
    Preprocessing,
    create_model,
    matmul_mode,
    tower_dtype,
)

CLASSES = 100
LOGIT_SCALE = 100.0  # CLIP's, where training ends
EXPERT_DISTANCE = 0.1  # of an expert's weights to the first's, in standard deviations
SINGLE_SAMPLES = 8  # merged and run one by one
CLUSTERS = 3
RANK = 64  # of the differences, where it is limited
AGREEMENT_IMAGES = 512
NOISE = 0.5  # added to a class's image, in standard deviations of a pixel


def make_experts(config: BenchConfig) -> Experts:
    """Random experts of an architecture that tell CLASSES random images apart."""
    torch.manual_seed(0)
    visual = create_model(ModelConfig(architecture=config.architecture)).visual.eval()
    preprocessing = Preprocessing.of(visual.preprocess_cfg)
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        features = torch.cat(
            [_features(visual, p) for p in torch.split(prototypes(preprocessing), 32)]
        )
    # what all images share says nothing of the class
    weight = LOGIT_SCALE * torch.nn.functional.normalize(features - features.mean(0), dim=-1)
    skeleton = Classifier(visual, {CHECKPOINT_HEAD: (weight.shape[0], weight.shape[1])}).eval()
    first = {name: tensor.clone() for name, tensor in skeleton.state_dict().items()}
    first[f"heads.{CHECKPOINT_HEAD}.weight"] = weight
    first[f"heads.{CHECKPOINT_HEAD}.bias"] = torch.zeros(CLASSES)
    states = [first]
    for _ in range(config.experts - 1):
        states.append({name: _near(tensor, generator) for name, tensor in first.items()})
    return Experts(skeleton=skeleton, states=tuple(states), base=None, preprocessing=preprocessing)


def prototypes(preprocessing: Preprocessing) -> torch.Tensor:
    """One coarse random image for each class, [CLASSES, 3, H, W]."""
    coarse = torch.randn(CLASSES, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, preprocessing.size, mode="bicubic")


def _features(visual: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    features = visual(pixels)
    features = features[0] if isinstance(features, tuple) else features
    return torch.nn.functional.normalize(features, dim=-1)


def _near(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return tensor
    noise = torch.randn(tensor.shape, generator=generator)
    return tensor + EXPERT_DISTANCE * (tensor.std() + 0.01) * noise * (tensor.abs() > 0)


@torch.inference_mode()
def figures(config: BenchConfig) -> Iterator[Figure]:
    """For each precision: forwards, passes, the exact mode, merging one by one, agreement."""
    experts = make_experts(config)
    device = torch.device(chosen_device(config.device))
    generator = torch.Generator().manual_seed(3)
    images = prototypes(experts.preprocessing)
    picked = torch.randint(CLASSES, (AGREEMENT_IMAGES,), generator=generator)
    pixels = images[picked]
    pixels = pixels + NOISE * torch.randn(pixels.shape, generator=generator)
    reference: dict[str, torch.Tensor] = {}
    for precision in map(_precision, config.precisions):
        modes = Modes(experts, precision, device)
        with matmul_mode(precision):
            yield from _times(config, modes, pixels[: config.batch].to(device, modes.dtype))
            found = modes.predictions(pixels, config.batch)
        if precision == "float32":
            reference = found
        elif reference:
            for mode, predicted in found.items():
                yield Figure(
                    section="models",
                    name=f"{precision} {mode}: agrees with float32",
                    value=100 * float((predicted == reference[mode]).float().mean()),
                    unit="%",
                    note=f"{AGREEMENT_IMAGES} images",
                )


def _precision(name: str) -> Precision:
    known: tuple[Precision, ...] = get_args(Precision)
    for precision in known:
        if precision == name:
            return precision
    raise UserError(f"There is no precision {name!r}; there are {', '.join(known)}.")


class Modes:
    """Every way of scoring a batch of pixels [B, 3, H, W] that lies on the device."""

    def __init__(self, experts: Experts, precision: Precision, device: torch.device):
        """Puts all models on the device."""
        self.experts, self.precision, self.device = experts, precision, device
        self.dtype = tower_dtype(precision)
        self.models = [experts.classifier(s, device, self.dtype) for s in experts.states]
        count = len(experts.states)
        share = np.linspace(0.3, 0.7, CLUSTERS)
        self.means = [[1 - s, *[s / (count - 1)] * (count - 1)] for s in share]
        self.merged = [self._merged(mean) for mean in self.means]
        self.low_rank = experts.samplewise(rank=RANK, device=device, dtype=self.dtype)
        self.wide = [  # float32 on the device, for merging
            {k: v.to(device) for k, v in state.items() if v.is_floating_point()}
            for state in experts.states
        ]
        self.samplewise = experts.samplewise(device=device, dtype=self.dtype)

    def _merged(self, mean: list[float]) -> Classifier:
        state = interpolate(self.experts.states, mean)
        return self.experts.classifier(state, self.device, self.dtype)

    def bare(self, pixels: torch.Tensor) -> torch.Tensor:
        """One forward of one model."""
        logits: torch.Tensor = self.models[0](pixels)
        return logits

    def pass_1(self, pixels: torch.Tensor) -> torch.Tensor:
        """All experts, and the coefficients float32 [B, M]."""
        logits = [model(pixels) for model in self.models]
        return log_expertise("entropy", logits, [1.0] * len(logits)).softmax(dim=-1)

    def clustered(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pass 2 with CLUSTERS merged models, samples split evenly."""
        parts = pixels.tensor_split(CLUSTERS)
        return torch.cat([m(p) for m, p in zip(self.merged, parts, strict=True) if len(p)])

    def exact(self, pixels: torch.Tensor, coefficients_BM: torch.Tensor) -> torch.Tensor:
        """One forward with each sample's own weights."""
        logits: torch.Tensor = self.samplewise(pixels, coefficients_BM, CHECKPOINT_HEAD)
        return logits

    def exact_job(self, pixels: torch.Tensor) -> torch.Tensor:
        """The whole exact mode: experts, coefficients, exact forward."""
        return self.exact(pixels, self.pass_1(pixels))

    def one_by_one(self, pixels: torch.Tensor, coefficients_BM: torch.Tensor) -> torch.Tensor:
        """Merge the weights for each sample and run it alone; no copy of a model is made."""
        outputs = []
        for pixel, row in zip(torch.split(pixels, 1), coefficients_BM.tolist(), strict=True):
            merged = {
                name: sum(share * state[name] for share, state in zip(row, self.wide, strict=True))
                for name in self.wide[0]
            }
            cast = {
                name: tensor.to(self.dtype) if name.startswith("visual.") else tensor
                for name, tensor in merged.items()
            }
            outputs.append(torch.func.functional_call(self.models[0], cast, (pixel,)))
        return torch.cat(outputs)

    def predictions(self, pixels: torch.Tensor, batch: int) -> dict[str, torch.Tensor]:
        """Predicted classes of each mode, on the CPU."""
        found: dict[str, list[torch.Tensor]] = {"one model": [], "exact mode": []}
        for part in torch.split(pixels, batch):
            part = part.to(self.device, self.dtype)
            found["one model"].append(self.bare(part).argmax(-1).cpu())
            found["exact mode"].append(self.exact_job(part).argmax(-1).cpu())
        return {mode: torch.cat(parts) for mode, parts in found.items()}


def _times(config: BenchConfig, modes: Modes, pixels: torch.Tensor) -> Iterator[Figure]:
    shares = modes.pass_1(pixels)
    few = slice(0, SINGLE_SAMPLES)
    functions = {
        "one forward of one model": lambda: modes.bare(pixels),
        f"pass 1: {config.experts} experts, entropies": lambda: modes.pass_1(pixels),
        f"pass 2: {CLUSTERS} merged models": lambda: modes.clustered(pixels),
        "exact forward": lambda: modes.exact(pixels, shares),
        f"exact forward, differences of rank {RANK}": lambda: modes.low_rank(
            pixels, shares, CHECKPOINT_HEAD
        ),
        "exact mode: experts and exact forward": lambda: modes.exact_job(pixels),
        "merging and running samples one by one": lambda: modes.one_by_one(
            pixels[few], shares[few]
        ),
    }
    wait = torch.cuda.synchronize if modes.device.type == "cuda" else lambda: None
    seconds = interleaved(functions, config.rounds, wait)
    limit, *_ = seconds
    counts = dict.fromkeys(seconds, len(pixels))
    counts["merging and running samples one by one"] = len(pixels[few])
    for name, times in seconds.items():
        each = [t / counts[name] for t in times]
        ratio = median_ratio(each, [t / len(pixels) for t in seconds[limit]])
        yield Figure(
            section="models",
            name=f"{modes.precision} {name}",
            value=1e3 * statistics.median(each),
            unit="ms/image",
            ratio=ratio,
            against="one forward",
            note=f"{1 / statistics.median(each):,.0f} images/s",
        )
