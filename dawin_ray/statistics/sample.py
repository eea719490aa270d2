"""A sample of rows that is the same whatever order they come in: those of the smallest hashes.

For what counts cannot tell, such as rank correlations. k rows, M experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLED = 1 << 16  # rows at most; a rank correlation's standard error is 1 / sqrt of it, 0.4 %


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows with a label, all of them while they are at most SAMPLED; in the order of hashes."""

    hash: np.ndarray  # of the sample id, uint64 [k]
    entropy: np.ndarray  # of each expert, float32 [k, M]
    loss: np.ndarray  # of each expert, in nats, float32 [k, M]

    @classmethod
    def of(cls, hash_N: np.ndarray, entropy_NM: np.ndarray, loss_NM: np.ndarray) -> Sample:
        """Of rows. Where hashes are the same, values decide, so that the order of rows does not."""
        chosen = np.arange(len(hash_N))
        if len(hash_N) > SAMPLED:
            last = np.partition(hash_N, SAMPLED - 1)[SAMPLED - 1]
            chosen = np.flatnonzero(hash_N <= last)
        sample = cls(hash_N[chosen], entropy_NM[chosen], loss_NM[chosen])
        keys = (*sample.loss.T[::-1], *sample.entropy.T[::-1], sample.hash)
        order = np.lexsort(keys)[:SAMPLED]
        return cls(sample.hash[order], sample.entropy[order], sample.loss[order])

    @classmethod
    def merge(cls, samples: Sequence[Sample]) -> Sample:
        """Of all rows together."""
        hashes, entropies, losses = (
            np.concatenate([getattr(sample, name) for sample in samples])
            for name in ("hash", "entropy", "loss")
        )
        return cls.of(hashes, entropies, losses)
