"""The heat map of weights: a row for each task, a column for each expert."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dawin_ray.report.figures import Audit
from dawin_ray.report.pictures import INK, PALETTE, draw, short

CELL = (0.66, 0.36)  # inches

LETTER = 0.09  # inches that a letter of a name takes at most

ANGLE = 35  # degrees, of the experts' names

LEAST_MARGIN = 0.9  # inches, for names that are short

STRONGEST = 0.75  # opacity of the largest weight: the figure in it stays readable


def of_weights(audit: Audit) -> str | None:
    """Mean coefficients, own expert framed and the largest of a row in bold; None without tasks.

    Tasks stand in the order of their experts, so that the own ones are the diagonal; data sets
    whose expert is not known stand below them.
    """
    tasks = [row for row in audit.of_tasks if row.rows]
    if not tasks:
        return None
    rows = [*tasks, *(row for row in audit.datasets if row.expert is None and row.rows)]
    experts = audit.experts
    means = [[row.coefficient[name].mean or 0.0 for name in experts] for row in rows]
    largest = max(map(max, means))

    def panel(axes: Axes) -> None:
        for y, (row, of_row) in enumerate(zip(rows, means, strict=True)):
            for x, (name, mean) in enumerate(zip(experts, of_row, strict=True)):
                shade = STRONGEST * mean / largest
                axes.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, color=PALETTE[0], alpha=shade, lw=0)
                )
                weight = "bold" if name == row.preferred else "normal"
                axes.text(x, y, f"{mean:.2f}", ha="center", va="center", fontweight=weight)
                if name == row.expert:
                    frame = (x - 0.46, y - 0.44)
                    axes.add_patch(Rectangle(frame, 0.92, 0.88, fill=False, ec=INK, lw=1.4))
        axes.set_xlim(-0.5, len(experts) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(experts)), map(short, experts), rotation=ANGLE, ha="right")
        axes.set_yticks(range(len(rows)), [short(row.dataset) for row in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("expert")

    # the names of the experts lean to the left, over those of the data sets
    tasks_wide = LETTER * max(len(short(row.dataset)) for row in rows)
    experts_long = LETTER * max(len(short(name)) for name in experts)
    left = max(tasks_wide, math.cos(math.radians(ANGLE)) * experts_long) + LEAST_MARGIN / 2
    below = math.sin(math.radians(ANGLE)) * experts_long + LEAST_MARGIN
    told = ", ".join(f"{row.preferred} on {row.dataset}" for row in rows)
    label = f"Mean weight of each expert on each task; the largest is that of {told}"
    size = (left + CELL[0] * len(experts), below + CELL[1] * len(rows))
    return draw("weights", [panel], size, label=label)
