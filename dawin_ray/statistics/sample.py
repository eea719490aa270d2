"""A sample of rows that is the same whatever order they come in: those of the smallest hashes.

For what counts cannot tell, such as rank correlations.

k rows, M experts, A who answer: the experts, and DaWin last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

SAMPLED = 1 << 16  # rows at most; a rank correlation's standard error is 1 / sqrt of it, 0.4 %


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows with a label, all of them while they are at most SAMPLED; in the order of hashes."""

    hash: np.ndarray  # of the sample id, uint64 [k]
    entropy: np.ndarray  # of each expert, float32 [k, M]
    loss: np.ndarray  # of each expert, in nats, float32 [k, M]
    label: np.ndarray  # int64 [k]; -1 where a summary of before did not keep it
    answer: np.ndarray  # the class that each says, int64 [k, A]; -1 likewise

    @classmethod
    def of(
        cls,
        hash_N: np.ndarray,
        entropy_NM: np.ndarray,
        loss_NM: np.ndarray,
        label_N: np.ndarray,
        answer_NA: np.ndarray,
    ) -> Sample:
        """Of rows. Where hashes are the same, values decide, so that the order of rows does not."""
        columns = (hash_N, entropy_NM, loss_NM, label_N, answer_NA)
        chosen = np.arange(len(hash_N))
        if len(hash_N) > SAMPLED:
            last = np.partition(hash_N, SAMPLED - 1)[SAMPLED - 1]
            chosen = np.flatnonzero(hash_N <= last)
        hash_, *others = (column[chosen] for column in columns)
        keys = (by for values in others[::-1] for by in np.atleast_2d(values.T)[::-1])
        order = np.lexsort((*keys, hash_))[:SAMPLED]
        return cls(hash_[order], *(values[order] for values in others))

    @classmethod
    def merge(cls, samples: Sequence[Sample]) -> Sample:
        """Of all rows together."""
        return cls.of(*(np.concatenate([getattr(s, f.name) for s in samples]) for f in fields(cls)))
