"""Shards whose samples are in several parts: that their names are unique in all of these together.

    work/parts/experts/<data set>/part-00000.names      hashes of the names of a shard's piece

Within a part, whoever makes it compares the names themselves. Of a shard that is larger, each part
leaves the hashes of what it has, 16 bytes a name, and tasks compare them: of one shard so many that
each holds about NAMES of them, whatever the shard's size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Output, output_of
from dawin_ray.runs.part_records import ExpertsPart
from dawin_ray.runs.planning import PartPlan
from dawin_ray.runs.work import MADE_AGAIN
from dawin_ray.storage import join

HASH_BYTES = 16  # of `hashes_of`

NAMES = 1 << 22  # names whose hashes a task holds at a time: 64 MB of them


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Names of a shard in several parts: those of `share`, of `shares` by their hashes."""

    dataset: str
    shard: str  # its name
    files: tuple[Output, ...]
    share: int
    shares: int

    @property
    def count(self) -> int:
        """Names of the shard, in all shares."""
        return sum(file.bytes for file in self.files) // HASH_BYTES


def write_names(run: RunDirectory, path: str, hashes: np.ndarray) -> Output:
    """The hashes of names uint64 [N, 2] as a file of a run; `path` is from its folder."""
    content = hashes.astype("<u8").tobytes()
    run.write(run.path(path), content)
    return output_of(path, content)


def plan_spreads(parts: Iterable[tuple[PartPlan, ExpertsPart]]) -> list[Spread]:
    """What tasks compare, of all shards that several of the parts have pieces of."""
    files = defaultdict[tuple[str, str, str], list[Output]](list)
    for plan, record in parts:
        for piece in plan.pieces:
            if not piece.is_whole:
                assert record.names is not None, "it was made of this plan"
                files[plan.dataset, piece.key, piece.shard].append(record.names)
    return [
        Spread(dataset=dataset, shard=shard, files=tuple(of_shard), share=share, shares=shares)
        for (dataset, _, shard), of_shard in files.items()
        for shares in [_shares_of(of_shard)]
        for share in range(shares)
    ]


def repeated_names(run: RunDirectory, spread: Spread) -> int:
    """How many names fewer than samples there are among those of a share.

    Raises:
        UserError: a file of names is lost or damaged; it is made again by the same command.
    """
    held = []
    for file in spread.files:
        hashes = np.frombuffer(_content(run, file), dtype="<u8").reshape(-1, 2)
        high = hashes[:, 0] >> np.uint64(32)
        held.append(hashes[high * np.uint64(spread.shares) >> np.uint64(32) == spread.share])
    found = np.concatenate(held)
    found = found[np.lexsort(found.T)]
    return int((found[1:] == found[:-1]).all(axis=1).sum())


def _shares_of(files: Iterable[Output]) -> int:
    return max(1, -(-sum(file.bytes for file in files) // (HASH_BYTES * NAMES)))


def _content(run: RunDirectory, file: Output) -> bytes:
    try:
        return run.content(run.path(file.path), file)
    except (FileNotFoundError, DamagedFileError) as error:
        address = join(run.address, file.path)
        raise UserError(
            f"The file {address!r} of this run is missing or damaged. {MADE_AGAIN}"
        ) from error
