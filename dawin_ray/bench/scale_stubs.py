"""Passes without models: rows drawn at random where a model would have made them.

Everything around the rows is the product's own. A chunk's rows depend on its name alone, and are
such as a job's could be: probabilities, and labels that the methods know more or less well.

Shapes: n samples of a chunk, M experts, Q compared methods.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.attempts import Tries
from dawin_ray.data import Chunk, ReadChunks, Slice, chunk_name
from dawin_ray.models import Preprocessing
from dawin_ray.passes import Pass, PixelFeed, ScoringSpec
from dawin_ray.tables import Kind

RIGHT = 0.7  # of the predictions
CLASSES = 100
CLUSTERS = 3


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a synthetic data set looks like."""

    shards: int
    chunks: int  # of a shard
    rows: int  # of a chunk

    @property
    def all_chunks(self) -> int:
        """Of all shards."""
        return self.shards * self.chunks

    @property
    def all_rows(self) -> int:
        """Of all chunks."""
        return self.all_chunks * self.rows


class StubReader(ReadChunks):
    """A reader that opens no file: as many chunks of each shard, with crops of no pixels."""

    def __init__(self, shape: Shape):
        """Of a data set of this shape."""
        self.shape = shape

    def counted(self, tries: Tries) -> StubReader:
        """Itself: nothing in it can die."""
        return self

    def __call__(self, part: Slice, finished: Collection[str] = ()) -> Iterator[Chunk]:
        """See `ReadChunks`."""
        shard, rows = part.shard, self.shape.rows
        for ordinal in filter(part.holds, range(self.shape.chunks)):
            name = chunk_name(shard, ordinal * rows)
            if name in finished:
                continue
            labels = _drawn(name).integers(0, CLASSES, rows)
            yield Chunk(
                name=name,
                dataset=shard.dataset,
                shard=shard.name,
                shard_key=shard.key,
                sample_ids=[f"{shard.name}/{ordinal * rows + row:08d}" for row in range(rows)],
                labels=labels.tolist(),
                images=np.empty((rows, 0, 0, 3), np.uint8),
                bytes=shard.bytes // self.shape.chunks,
            )


def stub_of(stage: Pass, preprocessing: Preprocessing) -> Pass:
    """The pass with random rows instead of its models'."""
    make = partial(StubScorer, stage.spec, stage.tables, preprocessing)
    return replace(stage, make=make)


class StubScorer:
    """See `passes.Scorer`."""

    merges = 0

    def __init__(self, spec: ScoringSpec, kinds: tuple[Kind, ...], preprocessing: Preprocessing):
        """Makes the tables `kinds`."""
        self.spec, self.kinds = spec, kinds
        self.feed = PixelFeed(preprocessing, torch.device("cpu"), torch.float32)

    def __call__(self, chunk: Chunk, read: Callable[[Kind], pa.Table]) -> dict[Kind, pa.Table]:
        """Tables of the same columns as a real pass's, and of about the same size."""
        made: dict[Kind, pa.Table] = {}
        if "experts" in self.kinds:
            made["experts"] = self._experts(chunk)
        if "predictions" in self.kinds:
            experts = made["experts"] if "experts" in made else read("experts")
            made["predictions"] = _predictions(chunk, experts, len(self.spec.model.experts))
        return made

    def _experts(self, chunk: Chunk) -> pa.Table:
        rng, rows = _drawn(chunk.name), len(chunk.sample_ids)
        experts, methods = len(self.spec.model.experts), len(self.spec.methods)
        entropy_nM = rng.gamma(2.0, 0.4, (rows, experts)).astype(np.float32)
        of_methods = _outcomes(rng, chunk, methods)
        of_experts = {name: values[:, :experts] for name, values in of_methods.items()}
        columns = {
            "sample_id": chunk.sample_ids,
            "label": chunk.labels,
            "expert_prediction": of_experts["prediction"],
            "expert_confidence": of_experts["confidence"],
            "expert_entropy": entropy_nM,
            "log_expertise": -entropy_nM,
            **{f"baseline_{name}": values for name, values in of_methods.items()},
        }
        if self.spec.baselines.even_interpolation:
            columns["even_prediction"] = of_methods["prediction"][:, -1].copy()
        return tables.table(tables.EXPERTS, columns)


def _predictions(chunk: Chunk, experts: pa.Table, count: int) -> pa.Table:
    rng, rows = _drawn(f"{chunk.name}/2"), len(chunk.sample_ids)
    assert experts["sample_id"].to_pylist() == chunk.sample_ids, "pass 1 made them of this chunk"
    e_nM = np.exp(tables.rows_of(experts["log_expertise"], count))
    found = {name: values[:, 0] for name, values in _outcomes(rng, chunk, 1).items()}
    top = rng.dirichlet(np.ones(tables.TOP_CLASSES), rows).astype(np.float32)
    columns = {
        name: experts[name].combine_chunks()
        for name in experts.schema.names
        if name in tables.PREDICTIONS.names
    }
    columns |= found | {
        "entropy": rng.gamma(2.0, 0.4, rows).astype(np.float32),
        "coefficient": (e_nM / e_nM.sum(axis=1, keepdims=True)).astype(np.float32),
        "cluster": rng.integers(0, CLUSTERS, rows, dtype=np.int32),
        "top_classes": rng.integers(0, CLASSES, top.shape, dtype=np.int32),
        "top_probabilities": -np.sort(-top, axis=1),
    }
    return tables.table(tables.PREDICTIONS, columns)


def _outcomes(rng: np.random.Generator, chunk: Chunk, methods: int) -> dict[str, np.ndarray]:
    """Columns [n, Q] of methods that are right RIGHT of the time, and about as sure."""
    labels_nQ = np.repeat(np.array(chunk.labels, np.int32)[:, None], methods, axis=1)
    right = rng.random(labels_nQ.shape) < RIGHT
    sure = rng.beta(4, 2, labels_nQ.shape).astype(np.float32)
    of_label = np.where(right, sure, (1 - sure) / 2)
    other = (labels_nQ + rng.integers(1, CLASSES, labels_nQ.shape, dtype=np.int32)) % CLASSES
    return {
        "prediction": np.where(right, labels_nQ, other),
        "confidence": sure,
        "nll": -np.log(of_label),
        "brier": (1 - of_label) ** 2,
    }


def _drawn(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
