"""What a run's values depend on, and what a fit holds for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Keys of a data set that came after runs were written: while they are null, its job is the same.
LATER_KEYS = ("head", "expert")


def without_later_keys(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's values without what older versions did not know and this job does not use."""
    datasets = [
        {key: value for key, value in of_set.items() if value is not None or key not in LATER_KEYS}
        for of_set in job["datasets"]
    ]
    return {**job, "datasets": datasets}


def identity_of(
    experts: Sequence[Mapping[str, Any]],
    base: str | None,
    scale: float,
    preprocessing: Mapping[str, Any],
    coefficient: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """What a fit holds for, besides classes and texts of its data set.

    `experts` are {sha256, temperature} in order, `architecture` is the digest of its config, and
    `preprocessing` has open_clip's version, which makes tokens and towers. Those of torch and of
    image libraries are left out: they move the last bits of a value, and a fit is a statistic of
    many.
    """
    identity: dict[str, Any] = json.loads(
        json.dumps(
            {
                "architecture": architecture, "experts": list(experts), "base": base,
                "scale": scale, "preprocessing": preprocessing, "coefficient": coefficient,
            }
        )
    )  # fmt: skip
    return identity
