"""Train the second suite's experts from nothing: a broad zero-shot one, and four descendants.

    python jobs/studies/train_letters.py --seed 0 --out letters/0

The descendants: `matrix`, and its `twin` of the same images in another order; `pencil` and `serif`.
Measured: 4 minutes on 2 cores that others used as well. Accuracies (per cent), mean of seeds 0, 10,
20, 30 and 40:

               matrix  perspective  contrast  specks  stripes  small  blocks  gradient  fonts
    zero_shot    82.2         66.1      76.6    52.4     45.2   57.8    60.9      78.6   98.5
    matrix       98.8         71.9      18.8    46.9     41.2   46.9    74.7      64.5   94.4
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import open_clip
import torch
from letters import CLASSES, DATASETS, broad_images, fine_tuning_images, make_test_set
from safetensors.torch import load_file
from train_digits import Classifier, save, tensors, train

MODEL_CONFIG = Path(__file__).with_name("letters.json")
# By expert: the style that it is fine-tuned to and what is added to the seed of its batches.
DESCENDANTS = {"matrix": ("matrix", 1), "twin": ("matrix", 2), "pencil": ("pencil", 3),
               "serif": ("serif", 4)}  # fmt: skip
THREADS = 1
BROAD_IMAGES = 20_000
PRETRAINING_STEPS = 1_500
FINE_TUNING_STEPS = 300

logger = logging.getLogger("train_digits")


def main() -> None:
    """Pretrain, fine-tune each descendant from there, save all, and log their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    open_clip.add_model_config(MODEL_CONFIG)
    clip, _, preprocess = open_clip.create_model_and_transforms(MODEL_CONFIG.stem)
    model = Classifier(clip.visual, len(CLASSES))

    broad = broad_images(BROAD_IMAGES, np.random.default_rng(seed))
    train(model, *tensors(preprocess, *broad), PRETRAINING_STEPS, seed)
    save(model, out / "zero_shot.safetensors")
    ancestor = {key: value.clone() for key, value in model.state_dict().items()}
    for name, (style, added) in DESCENDANTS.items():
        model.load_state_dict(ancestor)
        images = tensors(preprocess, *fine_tuning_images(style, seed))
        train(model, *images, FINE_TUNING_STEPS, seed + added)
        save(model, out / f"{name}.safetensors")

    tests = {name: tensors(preprocess, *make_test_set(name)) for name in DATASETS}
    for name in ("zero_shot", *DESCENDANTS):
        weights = load_file(out / f"{name}.safetensors")
        model.load_state_dict({k: v.float() if v.is_floating_point() else v
                               for k, v in weights.items()})  # fmt: skip
        model.eval()
        with torch.inference_mode():
            right = [float((model(x).argmax(dim=1) == y).float().mean()) for x, y in tests.values()]
        logger.info("%s: %s", name, " ".join(f"{100 * share:.1f}" for share in right))


if __name__ == "__main__":
    main()
