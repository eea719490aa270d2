"""Does anchoring the coefficients to a reference help? A second suite, of letters.

    for s in 0 10 20 30 40; do
        python jobs/studies/train_letters.py --seed $s --out letters/$s
    done
    python jobs/studies/reference_on_letters.py letters/*

The answer, with its tables, is in README.md beside this file.
"""

import argparse
from pathlib import Path

import letters
from reference_rules import Suite, print_study, study
from train_letters import MODEL_CONFIG

SUITE = Suite(
    architecture=MODEL_CONFIG,
    datasets=letters.DATASETS,
    make=letters.make_test_set,
    training=lambda seed: letters.fine_tuning_images("matrix", seed),
    groups={
        "pair": ("zero_shot", "matrix"),
        "twins": ("matrix", "twin"),
        "four": ("zero_shot", "matrix", "pencil", "serif"),
    },
    wrong=("perspective", "specks"),
    reference=letters.make_reference,
)


def main() -> None:
    """Study each folder and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="one a seed, named by its number")
    print_study(SUITE, [study(SUITE, folder) for folder in parser.parse_args().folders])


if __name__ == "__main__":
    main()
