"""Does anchoring the coefficients to a reference help? The demo's suite, retrained experts.

    mkdir -p seeds/0 && cp dawin_ray/demo/*.safetensors seeds/0
    for s in 10 20 30 40; do python jobs/studies/train_digits.py --seed $s --out seeds/$s; done
    for s in 0 10 20 30 40; do python jobs/studies/train_descendants.py --seed $s seeds/$s; done
    python jobs/studies/reference_on_digits.py seeds/*

The answer, with its tables, is in README.md beside this file.
"""

import argparse
from pathlib import Path

from reference_rules import Suite, print_study, study

from dawin_ray.demo import MODEL_CONFIG
from dawin_ray.demo.datasets import DATASETS, make_test_set
from dawin_ray.demo.images import handwritten_digits

SUITE = Suite(
    architecture=MODEL_CONFIG,
    datasets=DATASETS,
    make=make_test_set,
    training=lambda seed: handwritten_digits("train"),
    groups={
        "pair": ("zero_shot", "fine_tuned"),
        "twins": ("fine_tuned", "twin"),
        "four": ("zero_shot", "fine_tuned", "times", "outlines"),
    },
    wrong=("rotation", "noise"),
)


def main() -> None:
    """Study each folder and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="one a seed, named by its number")
    print_study(SUITE, [study(SUITE, folder) for folder in parser.parse_args().folders])


if __name__ == "__main__":
    main()
