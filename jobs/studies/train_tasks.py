"""Train the second suite of the demo from nothing: a base, a head and an expert for each task.

    python jobs/studies/train_tasks.py --out dawin_ray/demo/tasks.safetensors

The base learns all tasks a little, and their heads with them, from broad print. Heads are fixed
then, as CLIP's are by its text tower; each expert is the base, fine-tuned on its own task.

Measured on 2 cores of an AMD EPYC that others used as well, no GPU: 5 minutes. Arrows and
typefaces were made easier once, after a look at their experts alone (53 and 51 % before); no method
of merging was looked at until then. Another machine or version of torch may give other bytes.
Accuracies (per cent) of the packed models, each through the task's head:

                 digits  capitals   letters     greek  cyrillic     signs    arrows typefaces
         base      28.0      36.8      43.3      54.8      38.7      75.7      49.3      47.7
       arrows      20.5      26.8      35.7      33.5      31.5      57.2      70.5      40.3
     capitals      20.0      83.7      36.3      33.0      32.0      55.0      40.5      40.0
     cyrillic      20.3      21.3      26.5      31.7      91.5      56.7      30.5      42.3
       digits      93.5      21.8      25.7      27.3      30.3      54.3      38.5      45.2
        greek      23.7      26.2      35.2      84.2      36.0      53.5      40.0      42.8
      letters      13.0      30.0      87.3      40.5      25.5      59.8      38.5      43.3
        signs      28.7      19.5      23.5      43.5      31.7      96.7      33.0      39.5
    typefaces      21.8      25.2      33.8      33.3      31.7      59.8      44.0      71.0
"""

import argparse
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from train_digits import BATCH, LOGIT_SCALE, WARM_UP_STEPS, Preprocess, tensors

from dawin_ray.demo import TASKS_CONFIG
from dawin_ray.demo.packed import pack, unpack
from dawin_ray.demo.tasks import TASKS, broad_images, make_test_set, training_images

SEED = 0
THREADS = 1
BASE_STEPS = 1_500
BASE_RATE = 2e-3
EXPERT_STEPS = 300
EXPERT_RATE = 3e-4

logger = logging.getLogger("train_tasks")

Images = tuple[torch.Tensor, torch.Tensor]  # [N, 3, 32, 32] and labels [N]


class Tasks(torch.nn.Module):
    """An image tower and a head without bias for each task."""

    def __init__(self, visual: torch.nn.Module) -> None:
        """Heads start at random, like CLIP's zero-shot heads in scale."""
        super().__init__()
        self.visual = visual
        width = visual.output_dim
        assert isinstance(width, int)
        heads = {
            name: torch.nn.Linear(width, len(task.classes), bias=False)
            for name, task in TASKS.items()
        }
        for head in heads.values():
            torch.nn.init.orthogonal_(head.weight, gain=LOGIT_SCALE)
        self.heads = torch.nn.ModuleDict(heads)

    def logits(self, name: str, pixels: torch.Tensor) -> torch.Tensor:
        """[B, C] of a task's own head, of features that are not normalised."""
        logits: torch.Tensor = self.heads[name](self.visual(pixels))
        return logits

    def loss(self, batches: Mapping[str, Images]) -> torch.Tensor:
        """Mean cross-entropy over the images of all tasks, each through its own head."""
        pixels = torch.cat([pixels for pixels, _ in batches.values()])
        features = F.normalize(self.visual(pixels), dim=-1)
        parts = features.split([len(labels) for _, labels in batches.values()])
        sums = [
            F.cross_entropy(self.heads[name](part), labels, reduction="sum")
            for (name, (_, labels)), part in zip(batches.items(), parts, strict=True)
        ]
        return torch.stack(sums).sum() / len(pixels)


def rows_of(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of `size` rows out of `count`, from one shuffled epoch after another."""
    rng = np.random.default_rng(seed)
    left = np.empty(0, dtype=np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, rng.permutation(count)])
        yield left[:size]
        left = left[size:]


def train(model: Tasks, images: Mapping[str, Images], steps: int, rate: float, seed: int) -> None:
    """AdamW on cross-entropy of what asks for gradients, with equal parts of each task a batch."""
    size = BATCH // len(images)
    rows = {name: rows_of(len(labels), size, seed) for name, (_, labels) in images.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARM_UP_STEPS, 0.5 * (1 + math.cos(math.pi * step / steps))),
    )
    model.train()
    for step in range(steps):
        batch = {name: next(rows[name]) for name in images}
        loss = model.loss(
            {name: (x[batch[name]], y[batch[name]]) for name, (x, y) in images.items()}
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            logger.info("step %d of %d: loss %.3f", step + 1, steps, loss.item())


@torch.inference_mode()
def log_accuracies(model: Tasks, preprocess: Preprocess, path: Path) -> None:
    """Accuracy (per cent) of the packed models on each task's test images, with its head."""
    tests = {name: tensors(preprocess, *make_test_set(name)) for name in TASKS}
    models, heads = unpack(path)
    model.eval()
    logger.info("%10s %s", "", " ".join(f"{name:>9}" for name in tests))
    for expert, state in models.items():
        model.load_state_dict(state | {f"heads.{t}.weight": w for t, w in heads.items()})
        right = [
            100 * float((model.logits(name, x).argmax(dim=1) == y).float().mean())
            for name, (x, y) in tests.items()
        ]
        logger.info("%10s %s", expert, " ".join(f"{share:9.1f}" for share in right))


def main() -> None:
    """Train the base with all heads, then each expert from there, pack all, log accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the packed file")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything that is random")
    arguments = parser.parse_args()
    seed = arguments.seed
    logging.basicConfig(format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    open_clip.add_model_config(TASKS_CONFIG)
    clip, _, preprocess = open_clip.create_model_and_transforms(TASKS_CONFIG.stem)
    model = Tasks(clip.visual)  # the text tower is not trained, and not saved

    broad = {name: tensors(preprocess, *broad_images(name, seed)) for name in TASKS}
    logger.info("%d broad images", sum(len(labels) for _, labels in broad.values()))
    train(model, broad, BASE_STEPS, BASE_RATE, seed)
    model.heads.requires_grad_(False)
    base = {f"visual.{k}": v.clone() for k, v in model.visual.state_dict().items()}
    heads = {name: model.heads.get_parameter(f"{name}.weight").clone() for name in TASKS}

    experts = {}
    for number, name in enumerate(TASKS, start=1):
        model.load_state_dict(base, strict=False)
        own = {name: tensors(preprocess, *training_images(name, seed + 1))}
        logger.info("expert of %s", name)
        train(model, own, EXPERT_STEPS, EXPERT_RATE, seed + number)
        experts[name] = {f"visual.{k}": v.clone() for k, v in model.visual.state_dict().items()}
    pack(base, experts, heads, arguments.out)
    logger.info("%s: %d bytes", arguments.out, arguments.out.stat().st_size)
    log_accuracies(model, preprocess, arguments.out)


if __name__ == "__main__":
    main()
