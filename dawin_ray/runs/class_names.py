"""classes.json: the names of the data sets' classes, in the order of their numbers.

    {DATA SET: [NAME, ...], or null where no names are known}

It has no version beside its keys, as these are the names of data sets; the manifest, which has one,
seals it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import CLASSES

ClassNames = dict[str, tuple[str, ...] | None]


def write_class_names(run: RunFolder, names: Mapping[str, tuple[str, ...] | None]) -> None:
    """Into a run."""
    run.write_json(CLASSES, dict(names))


def read_class_names(run: RunFolder) -> ClassNames:
    """Those of a run, of the data sets that it scored.

    Raises:
        UserError: the file is damaged.
    """
    found: ClassNames = {}
    for dataset, names in run.read_json(CLASSES).items():
        if names is not None and not (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ):
            raise run.damaged(CLASSES, ValueError(f"{dataset} has no list of names"))
        found[dataset] = None if names is None else tuple(names)
    return found
