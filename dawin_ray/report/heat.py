"""The heat map of weights: a row for each task, a column for each expert."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dawin_ray.report.figures import Audit
from dawin_ray.report.pictures import INK, PALETTE, draw, short

CELL = (0.66, 0.36)  # inches

MARGINS = (2.2, 1.3)  # for the names

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
        axes.set_xticks(range(len(experts)), map(short, experts), rotation=35, ha="right")
        axes.set_yticks(range(len(rows)), [short(row.dataset) for row in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("expert")

    size = tuple(
        margin + cell * count
        for margin, cell, count in zip(MARGINS, CELL, (len(experts), len(rows)), strict=True)
    )
    told = "; ".join(f"{row.dataset}: {row.preferred}" for row in rows)
    label = f"Mean weight of each expert on each task. The largest is that of, on {told}"
    return draw("weights", [panel], (size[0], size[1]), label=label)
