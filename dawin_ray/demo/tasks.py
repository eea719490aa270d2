"""The second suite's eight tasks: other classes each, and a look of its own for each.

The base has seen all tasks a little, in broad print of few fonts; each expert has seen its own task
as it is tested. The images are grey, uint8; every random choice comes from a generator that is
passed in, or from a fixed seed. Shape suffixes: N images, H and W pixels (both SIDE), C classes.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dawin_ray.demo.glyphs import Style, draw
from dawin_ray.demo.images import handwritten_digits
from dawin_ray.errors import UserError

TEST_IMAGES = 400  # of each task
TRAINING_IMAGES = 4_000  # of each expert but that of the digits, which has all 1,000 there are
BROAD_IMAGES = 2_500  # of each task, for the base
SEED = 20_250_401  # of the test images; the training job has its own

SANS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")
MONO = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSansMono-Oblique.ttf")
SERIF = ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf")
STIX = ("STIXGeneral.ttf", "STIXGeneralBol.ttf")  # upright: the others lack signs and arrows

BROAD = Style(
    fonts=(*SANS, *STIX),
    size=(22, 32),
    angle=(-5, 5),
    shear=(-0.1, 0.1),
    ink=(0, 256),
    paper=(0, 256),
    noise=(0, 10),
)

# By what the typefaces' task calls them: the base's fonts, and those of the test.
TYPEFACES = {
    "sans": (SANS, ("DejaVuSans.ttf", "cmss10.ttf")),
    "serif": (STIX, ("DejaVuSerif.ttf", "cmr10.ttf")),
    "mono": (MONO, ("DejaVuSansMono.ttf", "cmtt10.ttf")),
}
ANY_CHARACTER = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of the suite: what is told apart, and the look that its expert knows."""

    classes: tuple[str, ...]
    style: Style


TASKS: Mapping[str, Task] = {  # their order is part of their seeds
    "digits": Task(classes=tuple(string.digits), style=BROAD),  # tested in handwriting
    "capitals": Task(  # a hard pencil
        classes=tuple(string.ascii_uppercase),
        style=Style(fonts=("cmss10.ttf", "cmti10.ttf"), ink=(80, 150), noise=(10, 30)),
    ),
    "letters": Task(  # small print, slanted to both sides
        classes=tuple(string.ascii_lowercase),
        style=Style(fonts=SERIF, size=(16, 24), shear=(-0.3, 0.3)),
    ),
    "greek": Task(  # chalk on a board
        classes=tuple("αβγδεζηθικλμνξοπρστυφχψω"),
        style=Style(fonts=SERIF, angle=(-12, 12), ink=(150, 240), paper=(10, 60), noise=(15, 40)),
    ),
    "cyrillic": Task(  # a matrix printer
        classes=tuple("БГДЖЗИЙЛПУФЦЧШЩЫЬЭЮЯ"),
        style=Style(fonts=MONO, size=(24, 30), dots=12),
    ),
    "signs": Task(  # a faint screen
        classes=tuple("+−×÷±=≠≈≤≥∑∏∫√∞∂∇∈∉⊂⊃∪∩∀∃"),
        style=Style(fonts=MONO, size=(24, 34), ink=(150, 190), paper=(60, 90), noise=(5, 20)),
    ),
    "arrows": Task(  # rain
        classes=tuple("←↑→↓↔↕↖↗↘↙⇐⇑⇒⇓⇔⇕"),
        style=Style(fonts=SERIF, angle=(-14, 14), ink=(0, 90), paper=(110, 200), noise=(25, 45)),
    ),
    "typefaces": Task(
        classes=tuple(TYPEFACES),
        style=Style(fonts=(), size=(24, 30), noise=(0, 10)),  # the class has its fonts
    ),
}


def make_test_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of TASKS: images [N, 32, 32] uint8 and labels [N] int64, the same at every call.

    Raises:
        UserError: there is no such task.
    """
    if name not in TASKS:
        raise UserError(f"the suite has no task {name!r}; choose from: {', '.join(TASKS)}")
    if name == "digits":
        images_NHW, labels_N = handwritten_digits("test")
        return images_NHW[:TEST_IMAGES], labels_N[:TEST_IMAGES]
    return own_images(name, TEST_IMAGES, _rng(name, SEED))


def training_images(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a task's expert learns, as `make_test_set`; another seed gives other images."""
    if name == "digits":
        return handwritten_digits("train")
    return own_images(name, TRAINING_IMAGES, _rng(name, seed))


def own_images(name: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A task's images in its own look, as `make_test_set`."""
    return _drawn(name, count, TASKS[name].style, rng, of_test=True)


def broad_images(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the base learns of a task, as `make_test_set`: no look of a test.

    None of its fonts either, but for two of the typefaces'.
    """
    return _drawn(name, BROAD_IMAGES, BROAD, _rng(name, seed), of_test=False)


def _drawn(
    name: str, count: int, style: Style, rng: np.random.Generator, *, of_test: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced classes (to one image where their number does not divide `count`), shuffled."""
    classes = TASKS[name].classes
    labels_N = rng.permutation(np.arange(count, dtype=np.int64) % len(classes))

    def image(label: int) -> np.ndarray:
        if name != "typefaces":
            return draw(classes[label], style, rng)
        fonts = TYPEFACES[classes[label]][of_test]
        character = ANY_CHARACTER[rng.integers(len(ANY_CHARACTER))]
        return draw(character, replace(style, fonts=fonts), rng)

    return np.stack([image(label) for label in labels_N]), labels_N


def _rng(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, list(TASKS).index(name)])
