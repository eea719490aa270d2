"""What is looked at: a choice of samples and their order, as a query string and as SQL.

All of a page's state is in its address, so that a link shows the same again. The SQL is what runs:
it stands on the page, and can be edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from dawin_ray.errors import UserError
from dawin_ray.view.database import literal, name_of
from dawin_ray.view.opened import OpenedRun

SIDES = ("right", "wrong")

EXPERTS = {
    "none": "no expert right",
    "one": "one expert right",
    "some": "some, not all right",
    "several": "several, not all right",
    "any": "at least one right",
    "all": "all experts right",
}

SORTS = {
    "": "as they are stored",
    "sure": "most confident first",
    "unsure": "least confident first",
    "entropy": "highest entropy first",
    "shuffled": "shuffled",
}

KEYS = {
    "": "",
    "sure": "confidence DESC",
    "unsure": "confidence",
    "entropy": "entropy DESC",
    "shuffled": "hash(sample_id)",
}

LARGEST = 2**63 - 1  # of a label, and of a number in an address


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The samples of a run that are looked at; an empty text is no condition.

    `weight` is the expert's whose coefficient is bounded. Numbers are texts, as they are written.
    """

    run: str = ""
    dataset: str = ""
    batch: str = ""
    label: str = ""
    prediction: str = ""
    merged: str = ""
    experts: str = ""
    right: str = ""  # experts' names, separated by commas, as the next one
    wrong: str = ""
    cluster: str = ""
    confidence_from: str = ""
    confidence_to: str = ""
    weight: str = ""
    weight_from: str = ""
    weight_to: str = ""
    id: str = ""  # a part of the sample's id
    sort: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Choice:
        """What an address says.

        Raises:
            UserError: a value is none.
        """
        found = cls(**{f.name: query[f.name] for f in fields(cls) if f.name in query})
        for name, known in {"merged": SIDES, "experts": EXPERTS, "sort": SORTS}.items():
            value = getattr(found, name)
            if value and value not in known:
                raise UserError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
        for name in ("run", "label", "prediction", "cluster"):
            if value := getattr(found, name):
                whole(name, value)
        for name in ("confidence_from", "confidence_to", "weight_from", "weight_to"):
            if value := getattr(found, name):
                _number(name, value)
        return found

    def query(self, **changes: Any) -> str:
        """The query string of this choice with some values changed, or added to it."""
        known = {f.name for f in fields(self)}
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {k: str(v) for k, v in changes.items() if k in known}
        others = {k: v for k, v in changes.items() if k not in known}
        return urlencode({k: v for k, v in (values | others).items() if v not in ("", None)})

    def but(self, **changes: str) -> Choice:
        """The same with some values changed."""
        return replace(self, **changes)

    def where(self, run: OpenedRun) -> list[str]:
        """The conditions in SQL.

        Raises:
            UserError: it names an expert that the run does not have.
        """
        return [*self._of_rows(), *self._of_outcomes(run), *self._of_ranges(run)]

    def _of_rows(self) -> Iterator[str]:
        for name in ("dataset", "batch"):
            if value := getattr(self, name):
                yield f"{name} = {literal(value)}"
        for name in ("label", "prediction", "cluster"):
            if value := getattr(self, name):
                yield f"{name} = {whole(name, value)}"
        if self.id:
            # what is no pattern; LIKE takes longer with an ESCAPE than without
            yield f"contains(sample_id, {literal(self.id)})"

    def _of_outcomes(self, run: OpenedRun) -> Iterator[str]:
        if self.merged:
            yield "merged_right" if self.merged == "right" else "NOT merged_right"
        if self.experts:
            yield {
                "none": "experts_right = 0",
                "one": "experts_right = 1",
                "some": f"experts_right BETWEEN 1 AND {len(run.experts) - 1}",
                "several": f"experts_right BETWEEN 2 AND {len(run.experts) - 1}",
                "any": "experts_right > 0",
                "all": f"experts_right = {len(run.experts)}",
            }[self.experts]
        for side, sign in ((self.right, "="), (self.wrong, "<>")):
            for name in filter(None, side.split(",")):
                yield f"expert_prediction[{_expert(run, name) + 1}] {sign} label"

    def _of_ranges(self, run: OpenedRun) -> Iterator[str]:
        weighed = _expert(run, self.weight or run.experts[-1]) + 1
        for column, bounds in {
            "confidence": (self.confidence_from, self.confidence_to),
            f"coefficient[{weighed}]": (self.weight_from, self.weight_to),
        }.items():
            for sign, bound in zip((">=", "<="), bounds, strict=True):
                if bound:
                    yield f"{column} {sign} {literal(_number(column, bound))}"

    def order(self) -> str:
        """The order in SQL; the empty text is that of the files."""
        return f"\nORDER BY {self.key}, dataset, sample_id" if self.key else ""

    @property
    def key(self) -> str:
        """What the order goes by first."""
        return KEYS[self.sort]

    def sql(self, run: OpenedRun, columns: str = "*") -> str:
        """The statement that gives all of the choice's samples. Raises as `where`."""
        return f"SELECT {columns}{self.source(run)}{self.order()}"

    def source(self, run: OpenedRun, table: str = "samples") -> str:
        """FROM and WHERE of the choice. Raises as `where`."""
        conditions = "\n  AND ".join(self.where(run))
        where = f"\nWHERE {conditions}" if conditions else ""
        return f"\nFROM {name_of(table, run.number)}{where}"


def whole(name: str, value: str) -> int:
    """A whole number of an address.

    Raises:
        UserError: it is none.
    """
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= LARGEST):
        raise UserError(f"{name} is {value[:50]!r}; expected a whole number.")
    return int(value)


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise UserError(f"{name} is {value[:50]!r}; expected a number.")
    return number


def _expert(run: OpenedRun, name: str) -> int:
    if name not in run.experts:
        raise UserError(f"There is no expert {name[:50]!r}; there are {', '.join(run.experts)}.")
    return run.experts.index(name)
