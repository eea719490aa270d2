"""Looking files up by name among millions of them, without an object for each."""

from __future__ import annotations

from bisect import bisect_right

from dawin_ray.data import Files, GrowingFiles

BLOCK = 1 << 12  # files that are looked into together


class Lookup:
    """Numbers and versions of files by name. Quick where names are asked for in their order.

    Holds the first name of each block, and the block that was asked for last.
    """

    def __init__(self, growing: GrowingFiles):
        """Of all that were added; of one name, the last counts. None can be added then."""
        self.files: Files = growing.files()
        self.firsts = [self.files.names[at] for at in range(0, len(self.files), BLOCK)]
        self.number, self.block = -1, dict[str, tuple[int, str]]()

    def get(self, name: str) -> tuple[int, str] | None:
        """What was added with a name last."""
        number = bisect_right(self.firsts, name) - 1
        if number < 0:
            return None
        if number != self.number:
            rows = self.files[number * BLOCK : (number + 1) * BLOCK].rows()
            self.number, self.block = (
                number,
                {name: (size, version) for name, size, version in rows},
            )
        return self.block.get(name)
