"""Fine-tune more descendants of the demo's zero-shot expert, for reference_on_digits.py.

    python jobs/studies/train_descendants.py --seed 0 seeds/0

Beside the two experts of a seed: `twin`, tuned as the demo's fine-tuned one with its batches in
another order; `times`, to printed digits of one family; `outlines`, to the training digits' edges.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file
from train_digits import FINE_TUNING_STEPS, THREADS, Classifier, save, tensors, train

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.images import SEEN_FONTS, edges, handwritten_digits, printed_digits

FONTS = tuple(font for font in SEEN_FONTS if font.startswith("STIX"))
IMAGES = 1_000


def main() -> None:
    """Fine-tune and save each descendant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the seed's experts")
    parser.add_argument("--seed", type=int, required=True, help="that they were trained with")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    torch.set_num_threads(THREADS)
    open_clip.add_model_config(MODEL_CONFIG)
    clip, _, preprocess = open_clip.create_model_and_transforms(MODEL_CONFIG.stem)
    model = Classifier(clip.visual)
    ancestor = load_file(arguments.folder / CHECKPOINTS["zero_shot"].name)
    rng = np.random.default_rng(arguments.seed)
    digits, labels = handwritten_digits("train")
    domains = {
        "twin": (digits, labels),
        "times": printed_digits(IMAGES, FONTS, rng),
        "outlines": (edges(digits, rng), labels),
    }
    for added, (name, images) in enumerate(domains.items(), 2):
        model.load_state_dict({key: value.float() for key, value in ancestor.items()})
        train(model, *tensors(preprocess, *images), FINE_TUNING_STEPS, arguments.seed + added)
        save(model, arguments.folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
