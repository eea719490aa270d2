"""The rows of a data set's predictions as plain arrays: what a summary is made of.

N samples, M experts, Q methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Predictions of N samples. Methods are by name, the experts' own among them.

    The last method is the one that the others are compared with (DaWin). Arrays by method are
    [N]; `nll` and `brier` are NaN where there is no label.
    """

    experts: tuple[str, ...]  # names, in the order of the columns [N, M]
    ids: np.ndarray  # of sample ids, as `hashes_of` makes them, uint64 [N, 2]
    label: np.ndarray  # int64 [N]; -1 where there is none
    prediction: Mapping[str, np.ndarray]  # int32
    confidence: Mapping[str, np.ndarray]  # float32, in [0, 1]
    nll: Mapping[str, np.ndarray]  # float32, in nats
    brier: Mapping[str, np.ndarray]  # float32
    entropy: np.ndarray  # of the experts, in nats, float32 [N, M]
    coefficient: np.ndarray  # float32 [N, M]
    expert_prediction: np.ndarray  # int32 [N, M]
    cluster: np.ndarray | None  # int32 [N]; None in the exact mode
    in_float32: np.ndarray | None = None  # predictions in float32, int32 [N]; -1 where not made
    crop_hash: np.ndarray | None = None  # uint64 [N]; None in runs of before
    crop_range: np.ndarray | None = None  # brightest less darkest pixel value, uint8 [N]

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names; the last is what the others are compared with."""
        return tuple(self.prediction)

    @classmethod
    def none(cls, experts: Sequence[str], methods: Sequence[str]) -> Rows:
        """No rows of these."""
        per_expert = np.zeros((0, len(experts)), dtype=np.float32)
        scores = dict.fromkeys(methods, np.zeros(0, dtype=np.float32))
        whole = np.zeros(0, dtype=np.int32)
        return cls(
            experts=tuple(experts),
            ids=np.zeros((0, 2), dtype=np.uint64),
            label=whole.astype(np.int64),
            prediction=dict.fromkeys(methods, whole),
            confidence=scores,
            nll=scores,
            brier=scores,
            entropy=per_expert,
            coefficient=per_expert,
            expert_prediction=per_expert.astype(np.int32),
            cluster=None,
        )


def hashes_of(ids: Iterable[str]) -> np.ndarray:
    """128 bits of each id, as two numbers: uint64 [N, 2].

    They are the first of BLAKE2b's (RFC 7693), which are taken for random. One id has one hash, so
    that no id that is there twice is missed; that any two of N different ids have the same has a
    probability below N^2 / 2^129: 1.5e-21 of 10^9 ids.
    """
    digest = hashlib.blake2b
    content = b"".join(digest(id_.encode(), digest_size=16).digest() for id_ in ids)
    return np.frombuffer(content, dtype="<u8").astype(np.uint64).reshape(-1, 2)


def sum_of_hashes(hashes: np.ndarray) -> np.ndarray:
    """What a set of ids has in common with no other, in any order: the sum of `hashes_of` them.

    Each of the two numbers modulo 2^64, int64 [2]; sums of parts add to that of the whole.

    Of two given lists of ids that are not the same but for their order, the sums are equal with a
    probability of 2^-128 where some id is in one of them once, or any odd number of times, more
    than in the other: one is lost, or another in its place. Where all such differences are
    multiples of 2^k, as of an id that is there 2^k times too often, it is 2^(2k - 128). This is
    chance alone: who may choose the ids can make sums equal.
    """
    total: np.ndarray = hashes.sum(axis=0, dtype=np.uint64).view(np.int64)
    return total
