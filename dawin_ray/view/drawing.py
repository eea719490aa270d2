"""Where a sample lies in the mixture, as a small SVG without style or script.

Two experts: the mass of each cluster over the weight of the second one, and a line at the sample.
More: a line for each expert from 0 to 1, the clusters' means on it, and the sample's share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dawin_ray.method import Mixture

WIDTH, HEIGHT, MARGIN = 420, 130, 18  # units of the picture

BINS = 140

TAIL = 1e-3  # of a cluster's mass that may lie outside of the picture, on each side

ROW = 18  # units of an expert's line

LABEL = 130  # units of its name


def drawing_of(
    mixture: Mixture, coefficient: Sequence[float], cluster: int | None, experts: Sequence[str]
) -> str:
    """The picture; experts' names need no escaping, as a job lets them be letters and digits."""
    if len(coefficient) == 2:
        return _of_two(mixture, coefficient[1], cluster)
    return _of_many(mixture, coefficient, cluster, experts)


def _of_two(mixture: Mixture, weight: float, cluster: int | None) -> str:
    from scipy.special import betainc, betaincinv

    alpha_K, beta_K = mixture.concentrations[:, 1], mixture.concentrations[:, 0]
    low = float(min(weight, *betaincinv(alpha_K, beta_K, TAIL)))
    high = float(max(weight, *betaincinv(alpha_K, beta_K, 1 - TAIL)))
    spare = 0.04 * (high - low) or 0.01
    low, high = max(0.0, low - spare), min(1.0, high + spare)
    edges = np.linspace(low, high, BINS + 1)
    below_KB = betainc(alpha_K[:, None], beta_K[:, None], edges)
    mass_KB = mixture.weights[:, None] * np.diff(below_KB, axis=1)
    height_KB = np.sqrt(mass_KB / mass_KB.max())  # narrow clusters hide wide ones otherwise

    def across(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low)

    floor = HEIGHT - MARGIN
    shapes = []
    for k, height_B in enumerate(height_KB):
        points = [f"{across(edges[0]):.1f},{floor}"]
        for i, height in enumerate(height_B):
            y = floor - (floor - MARGIN) * height
            points += [f"{across(edges[i]):.1f},{y:.1f}", f"{across(edges[i + 1]):.1f},{y:.1f}"]
        points.append(f"{across(edges[-1]):.1f},{floor}")
        kind = "own" if k == cluster else "other"
        shapes.append(f'<polygon class="{kind}" points="{" ".join(points)}"/>')
    x = across(weight)
    anchor = "end" if x > WIDTH / 2 else "start"
    at = x - 4 if anchor == "end" else x + 4
    shapes += [
        f'<line class="axis" x1="{MARGIN}" y1="{floor}" x2="{WIDTH - MARGIN}" y2="{floor}"/>',
        f'<line class="here" x1="{x:.1f}" y1="{MARGIN - 12}" x2="{x:.1f}" y2="{floor}"/>',
        f'<text x="{at:.1f}" y="{MARGIN - 4}" text-anchor="{anchor}">{weight:.4f}</text>',
        f'<text x="{MARGIN}" y="{HEIGHT - 3}">{low:.3f}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 3}" text-anchor="end">{high:.3f}</text>',
    ]
    return _svg(HEIGHT, shapes)


def _of_many(
    mixture: Mixture, coefficient: Sequence[float], cluster: int | None, experts: Sequence[str]
) -> str:
    shapes = []
    for i, (name, share) in enumerate(zip(experts, coefficient, strict=True)):
        y = MARGIN + ROW * i

        def across(value: float) -> float:
            return LABEL + (WIDTH - LABEL - MARGIN) * value

        shapes += [
            f'<text x="{LABEL - 8}" y="{y + 4}" text-anchor="end">{name[:18]}</text>',
            f'<line class="axis" x1="{across(0):.1f}" y1="{y}" x2="{across(1):.1f}" y2="{y}"/>',
        ]
        for k, mean in enumerate(mixture.means[:, i]):
            kind = "own" if k == cluster else "other"
            shapes.append(f'<circle class="{kind}" cx="{across(mean):.1f}" cy="{y}" r="5"/>')
        x = across(share)
        shapes.append(f'<line class="here" x1="{x:.1f}" y1="{y - 7}" x2="{x:.1f}" y2="{y + 7}"/>')
    return _svg(2 * MARGIN + ROW * len(experts), shapes)


def _svg(height: int, shapes: Sequence[str]) -> str:
    return (
        f'<svg class="mixture" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="where the sample lies in the mixture">' + "".join(shapes) + "</svg>"
    )
