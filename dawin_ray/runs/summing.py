"""Summaries of a run's parts as files of its work, and how they are merged by tasks.

    work/parts/predictions/<data set>/part-00000.summary    written by the task that makes the part
    work/summaries/<data set>/1-00000.summary               of FAN_IN of them; 2-... of those; ...

They add in any order to the same figures, so what is merged is not noted: it is merged again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Output, output_of
from dawin_ray.runs.layout import WORK
from dawin_ray.runs.work import MADE_AGAIN
from dawin_ray.statistics import Summary
from dawin_ray.storage import join

FAN_IN = 8  # summaries of up to some 30 MB that a task merges, two of them in memory


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Summaries that one task merges, and the file of the result."""

    path: str
    files: tuple[Output, ...]


def plan_merging(dataset: str, level: int, files: Sequence[Output]) -> list[Merging]:
    """A level of a data set's tree, the first is 1: fewer files, each of FAN_IN or what is left."""
    groups = [tuple(files[start : start + FAN_IN]) for start in range(0, len(files), FAN_IN)]
    return [
        Merging(path=join(WORK, "summaries", dataset, f"{level}-{number:05d}.summary"), files=group)
        for number, group in enumerate(groups)
    ]


def merge_summaries(run: RunDirectory, merging: Merging) -> Output:
    """Merge summaries into a file. Raises as `read_summary`."""
    first, *others = merging.files
    merged = read_summary(run, first)
    for file in others:
        merged = Summary.merge([merged, read_summary(run, file)])
    return write_summary(run, merging.path, merged)


def write_summary(run: RunDirectory, path: str, summary: Summary) -> Output:
    """A summary as a file of a run; `path` is from its folder."""
    content = summary.to_bytes()
    run.write(run.path(path), content)
    return output_of(path, content)


def read_summary(run: RunDirectory, file: Output) -> Summary:
    """The summary in a file of a run.

    Raises:
        UserError: it is lost or damaged; it is made again by the same command.
    """
    try:
        return Summary.from_bytes(run.content(run.path(file.path), file))
    except (FileNotFoundError, DamagedFileError, ValueError) as error:
        address = join(run.address, file.path)
        raise UserError(
            f"The file {address!r} of this run is missing or damaged. {MADE_AGAIN}"
        ) from error
