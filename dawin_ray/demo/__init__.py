"""The built-in demo: two suites of images, and small CLIP classifiers trained for them.

Everything here comes from scikit-learn's handwritten digits and matplotlib's bundled fonts;
`jobs/studies/train_digits.py` and `train_tasks.py` train the checkpoints again from nothing.
"""

from pathlib import Path

MODEL_CONFIG = Path(__file__).with_name("model.json")  # an open_clip model config
CHECKPOINTS = {
    "zero_shot": Path(__file__).with_name("zero_shot.safetensors"),
    "fine_tuned": Path(__file__).with_name("fine_tuned.safetensors"),
}
TASKS_CONFIG = Path(__file__).with_name("tasks.json")  # of the second suite, likewise
TASKS_PACKED = Path(__file__).with_name("tasks.safetensors")  # its models, see `packed`
