"""Train the experts of the new suites from nothing: a broad zero-shot one and its descendant.

    for s in 0 10 20; do
        python jobs/studies/train_suites.py --suite textures --architecture vit --seed $s \
            --out suites/textures-vit/$s
    done

and so on for the suites textures and emoji and the architectures vit and resnet; `--packages` is
the folder of the unpacked npm packages that emoji.py names. `--suite` may be given `all`, and the
architecture too. COST
"""

import argparse
import itertools
import logging
import time
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file
from suites import ARCHITECTURES, PROTOCOL, Suite, suite_of
from train_digits import Classifier, Preprocess, save, tensors, train

NAMES = ("zero_shot", "fine_tuned")
TRAINING = PROTOCOL["training"]

logger = logging.getLogger("train_digits")


def train_pair(suite: Suite, architecture: str, seed: int, out: Path) -> None:
    """Pretrain, save, fine-tune all weights, save, and log the accuracies of both."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = ARCHITECTURES[architecture]
    open_clip.add_model_config(config)
    clip, _, preprocess = open_clip.create_model_and_transforms(config.stem)
    model = Classifier(clip.visual, len(suite.classes))  # the text tower is not trained
    started = time.process_time()
    broad = suite.broad_images(TRAINING["broad_images"], seed)
    train(model, *tensors(preprocess, *broad), TRAINING["pretraining_steps"][architecture], seed)
    save(model, out / "zero_shot.safetensors")
    narrow = suite.fine_tuning_images(TRAINING["fine_tuning_images"], seed)
    train(model, *tensors(preprocess, *narrow), TRAINING["fine_tuning_steps"], seed + 1)
    save(model, out / "fine_tuned.safetensors")
    logger.info("%s: %.0f CPU seconds", out, time.process_time() - started)
    for name in NAMES:
        log_accuracies(suite, model, preprocess, out / f"{name}.safetensors")


@torch.inference_mode()
def log_accuracies(suite: Suite, model: Classifier, preprocess: Preprocess, path: Path) -> None:
    """Accuracy of the saved, rounded weights on each of the suite's data sets."""
    weights = load_file(path)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v
                           for k, v in weights.items()})  # fmt: skip
    model.eval()
    found = []
    for name in suite.datasets:
        pixels, labels = tensors(preprocess, *suite.test_set(name))
        share = float((model(pixels).argmax(dim=1) == labels).float().mean())
        found.append(f"{name} {100 * share:.1f}")
    logger.info("%s: %s", path, " ".join(found))


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=[*PROTOCOL["suites"], "all"], default="all")
    parser.add_argument("--architecture", choices=[*ARCHITECTURES, "all"], default="all")
    parser.add_argument("--seeds", type=int, nargs="+", default=PROTOCOL["seeds"])
    parser.add_argument("--packages", type=Path, required=True, help="unpacked packages of emoji")
    parser.add_argument("--out", type=Path, required=True, help="for SUITE-ARCHITECTURE/SEED")
    asked = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)
    names = list(PROTOCOL["suites"]) if asked.suite == "all" else [asked.suite]
    kinds = list(ARCHITECTURES) if asked.architecture == "all" else [asked.architecture]
    for seed, name, kind in itertools.product(asked.seeds, names, kinds):
        suite = suite_of(name, asked.packages)
        train_pair(suite, kind, seed, asked.out / f"{name}-{kind}" / str(seed))


if __name__ == "__main__":
    main()
