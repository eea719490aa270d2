"""Train the demo's two experts from nothing: a broad zero-shot one, and its fine-tuned descendant.

    python jobs/studies/train_digits.py --out dawin_ray/demo

Measured on 2 cores of an AMD EPYC, no GPU, torch 2.15: 3 to 4 minutes while little else ran, 15 on
busy cores. A second run there gave the same bytes; another machine or version of torch may not.
Accuracies (per cent) of the float16 weights that are saved:

                digits  rotation  noise  inversion  edges  blur  occlusion  printed  mean of shifts
    zero_shot     96.0      84.4   86.1       90.6   87.2  91.5       86.3     91.6            88.2
    fine_tuned    98.7      69.1   92.3       61.0   78.8  93.2       88.3     70.9            79.1
"""

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import load_file, save_file

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import DATASETS, make_test_set
from dawin_ray.demo.images import CLASSES, broad_images, handwritten_digits

SEED = 0
THREADS = 2  # sums of other numbers of threads differ in their last digits
BROAD_IMAGES = 16_000
PRETRAINING_STEPS = 1_200
FINE_TUNING_STEPS = 400
BATCH = 128
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 50  # then a cosine to zero
LOGIT_SCALE = 16.0  # norm of the head's rows at the start; CLIP's starts at 1 / 0.07 = 14.3

Preprocess = Callable[[Image.Image], torch.Tensor]  # an image to [3, 32, 32] float32
logger = logging.getLogger("train_digits")


class Classifier(torch.nn.Module):
    """An image tower and a head: logits = head(normalize(visual(x)))."""

    def __init__(self, visual: torch.nn.Module, classes: int = len(CLASSES)) -> None:
        """The head starts at random, like CLIP's zero-shot heads in scale."""
        super().__init__()
        self.visual = visual
        width = visual.output_dim
        assert isinstance(width, int)
        self.classification_head = torch.nn.Linear(width, classes)
        with torch.no_grad():
            torch.nn.init.orthogonal_(self.classification_head.weight, gain=LOGIT_SCALE)
            self.classification_head.bias.zero_()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, 32, 32] float32 to logits [B, C]."""
        logits: torch.Tensor = self.classification_head(F.normalize(self.visual(pixels), dim=-1))
        return logits


def tensors(
    preprocess: Preprocess, images_NHW: np.ndarray, labels_N: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 32, 32] uint8 and labels [N] to what the model reads: [N, 3, 32, 32] and [N]."""
    pixels = torch.stack([preprocess(Image.fromarray(image_HW)) for image_HW in images_NHW])
    return pixels, torch.from_numpy(labels_N)


def train(
    model: Classifier, pixels: torch.Tensor, labels: torch.Tensor, steps: int, seed: int
) -> None:
    """AdamW on cross-entropy; batches are drawn from one shuffled epoch after another."""
    rng = np.random.default_rng(seed)
    epochs = math.ceil(steps * BATCH / len(labels))
    rows = np.concatenate([rng.permutation(len(labels)) for _ in range(epochs)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARM_UP_STEPS, 0.5 * (1 + math.cos(math.pi * step / steps))),
    )
    model.train()
    for step in range(steps):
        batch = rows[step * BATCH : (step + 1) * BATCH]
        loss = F.cross_entropy(model(pixels[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            logger.info("step %d of %d: loss %.3f", step + 1, steps, loss.item())


def save(model: Classifier, path: Path) -> None:
    """Write what the job reads, in float16: `visual.*` and `classification_head.*`."""
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
    save_file(weights, path)
    logger.info("%s: %d tensors, %d bytes", path, len(weights), path.stat().st_size)


@torch.inference_mode()
def log_accuracies(model: Classifier, preprocess: Preprocess, path: Path) -> None:
    """Accuracy of the saved, rounded weights on each of the demo's data sets."""
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    model.eval()
    accuracies = []
    for name in DATASETS:
        pixels, labels = tensors(preprocess, *make_test_set(name))
        accuracies.append(100 * float((model(pixels).argmax(dim=1) == labels).float().mean()))
        logger.info("%s on %s: %.1f %%", path.stem, name, accuracies[-1])
    logger.info("%s, mean of the shifts: %.1f %%", path.stem, np.mean(accuracies[1:]))


def main() -> None:
    """Pretrain, save, fine-tune, save, and log the accuracies of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two checkpoints")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything that is random")
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    zero_shot, fine_tuned = (out / path.name for path in CHECKPOINTS.values())

    open_clip.add_model_config(MODEL_CONFIG)
    clip, _, preprocess = open_clip.create_model_and_transforms(MODEL_CONFIG.stem)
    model = Classifier(clip.visual)  # the text tower is not trained, and not saved

    broad = tensors(preprocess, *broad_images(BROAD_IMAGES, np.random.default_rng(seed)))
    train(model, *broad, PRETRAINING_STEPS, seed)
    save(model, zero_shot)

    digits = tensors(preprocess, *handwritten_digits("train"))
    train(model, *digits, FINE_TUNING_STEPS, seed + 1)
    save(model, fine_tuned)

    for path in (zero_shot, fine_tuned):
        log_accuracies(model, preprocess, path)


if __name__ == "__main__":
    main()
