"""The pages, made on the server: every text of the data is escaped, and none is a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2

import dawin_ray
from dawin_ray.errors import UserError
from dawin_ray.method import DAWIN
from dawin_ray.names import escaped
from dawin_ray.view import looking
from dawin_ray.view.database import SECONDS, Database, Result
from dawin_ray.view.drawing import drawing_of
from dawin_ray.view.export import MAX_IMAGES, MAX_ROWS
from dawin_ray.view.filters import EXPERTS, SORTS, Choice, whole
from dawin_ray.view.images import Images
from dawin_ray.view.opened import OpenedRun, folder_of

MAX_OPTIONS = 1_000  # classes that a list is made of; of more, a number is written

MAX_CELL = 200  # characters of a value in a table

NOTHING = "–"


class Pages:
    """Every page as HTML. May be asked by several threads."""

    def __init__(self, runs: Sequence[OpenedRun], database: Database):
        """Of some runs, whose views are in the database."""
        self.runs, self.database = runs, database
        self.images = [Images(run) for run in runs]

    def run_of(self, query: Mapping[str, str]) -> OpenedRun:
        """The run that an address names by its number.

        Raises:
            UserError: there is none.
        """
        number = whole("run", query.get("run") or "0")
        if not 0 <= number < len(self.runs):
            raise UserError(f"There is no run {number}; {len(self.runs)} are opened, from 0.")
        return self.runs[number]

    def suite(self, query: Mapping[str, str]) -> str:
        """All data sets of a run in a table."""
        run = self.run_of(query)
        methods = list(dict.fromkeys(m for row in run.suite for m in row.accuracy))
        return self._render("suite", run, Choice.of(query), methods=methods)

    def look(self, query: Mapping[str, str]) -> str:
        """The filters, what they leave, and its images."""
        run, choice = self.run_of(query), Choice.of(query)
        number = max(0, whole("page", query.get("page") or "0"))
        found, page = looking.look(self.database, run, choice, number * looking.PER_PAGE)
        return self._render(
            "look", run, choice, found=found, page=page, number=number,
            first=number * looking.PER_PAGE, classes=self._options(run, choice.dataset),
        )  # fmt: skip

    def confusions(self, query: Mapping[str, str]) -> str:
        """Which class is taken for which."""
        run, choice = self.run_of(query), Choice.of(query)
        rows, sql, seconds = looking.confusions(self.database, run, choice)
        return self._render("confusions", run, choice, rows=rows, sql=sql, seconds=seconds)

    def sample(self, query: Mapping[str, str]) -> str:
        """One sample: by its place in a choice (`at`), or by its data set and id (`sample`)."""
        run, choice = self.run_of(query), Choice.of(query)
        at, more = None, False
        if "at" in query:
            at = max(0, whole("at", query["at"]))
            page = looking.samples(self.database, run, choice, at, 1)
            if not page.rows:
                raise UserError("The choice has no sample at this place.")
            dataset, sample_id = page.rows[0]["dataset"], page.rows[0]["sample_id"]
            more = page.more
        else:
            dataset, sample_id = query.get("dataset", ""), query.get("sample", "")
        row = looking.one(self.database, run, dataset, sample_id)
        if row is None:
            raise UserError(f"There is no sample {escaped(sample_id)!r} of {escaped(dataset)!r}.")
        return self._render(
            "sample", run, choice, row=row, at=at, more=more,
            picture=self._picture(run, row),
            beside=list(looking.beside(self.database, run, dataset, sample_id)),
            others=self._others(run, dataset, sample_id),
        )  # fmt: skip

    def sql(self, query: Mapping[str, str], result: Result | None, error: str = "") -> str:
        """A statement to edit, and what it gave."""
        run = self.run_of(query)
        statement = query.get("sql") or Choice.of(query).sql(run, looking.OF_TILES)
        return self._render(
            "sql", run, Choice.of(query), statement=statement, result=result, error=error
        )

    def problem(self, query: Mapping[str, str], error: UserError) -> str:
        """What is wrong with what was asked for."""
        return self._render("problem", self.runs[0], Choice(), error=str(error))

    def _render(self, name: str, run: OpenedRun, choice: Choice, **values: Any) -> str:
        names = _Names(run)
        return self._templates.get_template(f"{name}.html.j2").render(
            run=run, runs=self.runs, choice=choice, names=names, dawin=DAWIN, here=name,
            version=dawin_ray.__version__, sorts=SORTS, sides_of_experts=EXPERTS,
            limits={
                "rows": MAX_ROWS, "images": MAX_IMAGES, "seconds": SECONDS,
                "per_page": looking.PER_PAGE, "pairs": looking.PAIRS,
            },
            **values,
        )  # fmt: skip

    @cached_property
    def _templates(self) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("dawin_ray.view", "templates"), autoescape=True,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {
            "line": line_of, "number": _number, "percent": _percent, "thousands": _thousands,
            "folder": folder_of,
        }  # fmt: skip
        return environment

    def _options(self, run: OpenedRun, dataset: str) -> list[str] | None:
        """The classes of a data set to choose from; None where a number is to be written."""
        names = run.class_names(dataset)
        if not names or len(names) > MAX_OPTIONS:
            return None
        return [f"{i} {line_of(name)}" for i, name in enumerate(names)]

    def _picture(self, run: OpenedRun, row: Mapping[str, Any]) -> str:
        """Of the mixture; nothing where there is none."""
        mixture = run.mixture(row["dataset"], row["batch"])
        if mixture is None or not row["coefficient"]:
            return ""
        return drawing_of(mixture, row["coefficient"], row["cluster"], run.experts)

    def _others(self, run: OpenedRun, dataset: str, sample_id: str) -> list[dict[str, Any]]:
        """What other runs made of the sample."""
        found = (
            (other, looking.one(self.database, other, dataset, sample_id))
            for other in self.runs
            if other is not run and dataset in other.datasets
        )
        return [{"run": other} | row for other, row in found if row is not None]


class _Names:
    """The classes of a run, in words."""

    def __init__(self, run: OpenedRun):
        self._run = run

    def __call__(self, dataset: str, number: int | None) -> str:
        """A class as its number and its name, as far as there are these."""
        if number is None:
            return NOTHING
        names = self._run.class_names(dataset)
        named = names is not None and 0 <= number < len(names)
        return f"{number} {line_of(names[number])}" if named and names else str(number)


def line_of(value: object) -> str:
    """A value on one line, with nothing in it that steers, and no longer than a cell."""
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(line_of, value))}]"
    text = escaped(str(value))
    return text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"


def _number(value: float | None, digits: int = 4) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _thousands(value: int) -> str:
    return f"{value:,}"
