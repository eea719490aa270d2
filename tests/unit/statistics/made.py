"""Made rows, as predictions have them."""

import numpy as np

from dawin_ray.statistics import Rows, hashes_of

EXPERTS = ("zero_shot", "fine_tuned", "other")
METHODS = (*EXPERTS, "ensemble", "dawin")


def make_rows(
    n: int,
    seed: int = 0,
    *,
    labels: float = 0.9,
    classes: int = 7,
    clusters: int | None = 3,
    coarse: int | None = None,
    experts: tuple[str, ...] = EXPERTS,
) -> Rows:
    """N rows, of which a share has labels. With `coarse`, values are multiples of 1 / coarse."""
    draw = np.random.default_rng(seed)
    methods = (*experts, "ensemble", "dawin")

    def numbers(*shape):
        values = draw.random(shape)
        return (np.round(values * coarse) / coarse if coarse else values).astype(np.float32)

    label = np.where(draw.random(n) < labels, draw.integers(0, classes, n), -1)
    known = label >= 0

    def answers():
        guess = draw.integers(0, classes, n)
        return np.where(known & (draw.random(n) < 0.5), label, guess).astype(np.int32)

    def losses():
        return np.where(known, numbers(n) * 3, np.nan).astype(np.float32)

    prediction = {name: answers() for name in methods}
    return Rows(
        experts=experts,
        ids=hashes_of([f"{seed}/{i}" for i in range(n)]),
        label=label,
        prediction=prediction,
        confidence={name: numbers(n) for name in methods},
        nll={name: losses() for name in methods},
        brier={name: losses() for name in methods},
        entropy=numbers(n, len(experts)) * 2,
        coefficient=numbers(n, len(experts)),
        expert_prediction=np.stack([prediction[name] for name in experts], axis=1),
        cluster=None if clusters is None else draw.integers(0, clusters, n).astype(np.int32),
        in_float32=np.where(draw.random(n) < 0.2, prediction["dawin"], -1).astype(np.int32),
    )


def taken(rows: Rows, which: np.ndarray) -> Rows:
    """Some of the rows."""

    def of(value):
        if isinstance(value, dict):
            return {name: array[which] for name, array in value.items()}
        return value[which] if isinstance(value, np.ndarray) else value

    return Rows(**{name: of(value) for name, value in vars(rows).items()})
