"""Train the experts of the new suites from nothing: a broad zero-shot one and its descendant.

    python jobs/studies/train_suites.py --packages PACKAGES --out suites

PACKAGES is the folder of the unpacked npm packages that emoji.py names; `--suite`, `--architecture`
and `--seeds` train a part. All twelve pairs took 19 minutes of CPU time, 80 to 107 s each, on one
thread of an AMD EPYC each. Accuracies (per cent), mean over seeds 0, 10 and 20:

    textures    woven turned  fine  dyed rumpled  dim noise  blur  jpeg shadow patch
    vit
      zero_shot  70.2   82.3  40.4  66.6    49.7 62.9  56.7  41.2  59.9   34.4  43.0
      fine_tuned 91.1   72.2  36.4  72.4    51.3 38.3  73.7  55.9  80.0   38.0  54.0
    resnet
      zero_shot  84.6   85.0  42.9  78.3    65.5 54.5  72.9  43.7  77.6   67.0  68.4
      fine_tuned 99.1   67.6  36.1  75.0    60.5 22.0  82.6  45.7  92.3   64.9  84.7

    emoji       apple google twitter facebook dark small turned grey  jpeg patch noise
    vit
      zero_shot  30.8   59.6    26.6     29.4 33.5  13.1   23.3 14.8  25.3  13.9  25.3
      fine_tuned 66.2   44.4    30.0     37.9 35.7  14.2   37.5 19.7  42.0  24.3  46.9
    resnet
      zero_shot  36.3   67.0    30.0     35.1 39.9  13.1   22.7 22.0  28.3  18.3  28.0
      fine_tuned 85.4   49.7    36.3     41.6 27.3  14.8   41.0 31.3  51.1  36.7  41.2
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
