"""What a job would do, without doing it."""

from __future__ import annotations

import math
import os
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from dawin_ray.config import Job
from dawin_ray.data import Sample, Shard, count_samples, forecast
from dawin_ray.engine import ComputeConfig, gpus_here
from dawin_ray.job.calibrated import lines_of_applied
from dawin_ray.job.peek import classes_of
from dawin_ray.job.prepare import Prepared
from dawin_ray.method import Method
from dawin_ray.models import as_values, described
from dawin_ray.names import printable
from dawin_ray.runs import SHOWN_BROKEN, SHOWN_REASONS, kind_of_reason

FLOAT32_BYTES, GB = 4, 1e9


@dataclass(frozen=True, kw_only=True)
class Forwards:
    """What a job asks of models for each sample: forwards of one model, and exact ones.

    An exact one is at the price of about as many as there are experts.
    """

    experts: int
    static: int  # of baselines that are merged once
    samplewise: int  # exact ones, of baselines
    merged: int  # of the models of its clusters, and of other fits'
    exact: int  # 1 in the exact mode
    passes: int

    @property
    def plain(self) -> int:
        """In the pass of the experts."""
        return self.experts + self.static


def forwards_of(job: Job) -> Forwards:
    """Those of a job."""
    methods = job.methods
    fits = sum(method.kind == "fit" for method in methods)
    return Forwards(
        experts=len(job.experts),
        static=sum(method.merges for method in methods),
        samplewise=sum(method.kind == "samplewise" for method in methods),
        merged=0 if job.exact else 1 + fits,
        exact=int(job.exact),
        passes=1 if job.one_pass else 2,
    )


def plan_of(prepared: Prepared) -> list[Any]:
    """Printable parts: a table of the data sets, then models, forwards and devices."""
    job, spec = prepared.job, prepared.spec
    table = Table(title=Text(printable(f"Plan of {job.run_dir}")), title_justify="left")
    for heading in ("data set", "format", "classes", "head"):
        table.add_column(heading)
    for heading in ("shards", "samples", "bytes", "chunks"):
        table.add_column(heading, justify="right")
    total, unknown, faults = 0, False, []
    for name, shards in prepared.shards.items():
        found = _Faults(name)
        counts = [count_samples(shard, found.add) for shard in shards]
        faults += found.lines()
        known = sum(count for count in counts if count is not None)
        missing = None in counts
        total, unknown = total + known, unknown or missing
        chunks = sum(math.ceil((count or 0) / job.compute.chunk_size) for count in counts)
        table.add_row(
            Text(printable(name)),
            shards[0].format,
            f"{spec.classes[name].count:,}",
            spec.tasks[name].head,
            f"{len(shards):,}",
            "unknown until read" if missing else f"{known:,}",
            f"{sum(shard.bytes for shard in shards):,}",
            "?" if missing else f"{chunks:,}",
        )
    asked = forwards_of(job)
    experts, static, samplewise = asked.experts, asked.static, asked.samplewise
    fits = 1 if job.fit == "joint" else len(job.datasets)
    at_least = "at least " if unknown else ""
    clusters = job.mixture.clusters
    most = clusters if isinstance(clusters, int) else job.mixture.max_clusters
    others = [m.fit for m in job.methods if m.fit is not None]
    offset = " with offset adjustment" if job.coefficient.offset_adjustment else ""
    beside = f" + {static} static model{'s' if static > 1 else ''}" if static else ""
    experts_pass = (
        f"{at_least}{total * (experts + static):,} forwards: {total:,} images x "
        f"({experts} experts{beside})"
    )
    if samplewise:
        experts_pass += (
            f"; {at_least}{total * samplewise:,} exact forwards of {samplewise} baselines, each at "
            f"the price of about {experts}"
        )
    exact_pass = f"{at_least}{total:,} exact forwards, each at the price of about {experts}"
    if job.saved_fit is not None and not job.exact:
        passes = [
            f"fit       of {job.saved_fit.address}, data set {job.saved_fit.dataset}",
            f"one pass  {experts_pass}",
            f"          and {at_least}{total:,} forwards of merged models",
        ]
    elif job.one_pass:
        passes = [f"one pass  {experts_pass}", f"          and {exact_pass}"]
    elif job.exact:
        passes = [
            f"pass 1    {experts_pass}",
            f"offsets   {fits}, from the moments of the entropies",
            f"pass 2    {exact_pass}",
        ]
    else:
        passes = [
            f"pass 1    {experts_pass}",
            f"fit       {fits} mixture{'s' if fits > 1 else ''} of "
            f"{'up to ' if clusters == 'auto' else ''}{most} clusters, from "
            f"{job.coefficient.metric}{offset}",
            f"pass 2    {at_least}{total * asked.merged:,} forwards; at most "
            f"{fits * (most + sum(f.clusters or most for f in others))} merges in each actor",
        ]
    if job.exact:
        passes.append(f"memory    {_weights_of_exact(prepared)}")
    height, width = prepared.preprocessing.size
    return [
        table,
        *faults,
        *labels_of(prepared),
        *classes_of(prepared),
        *_heads_of(prepared),
        *_tasks_of(prepared),
        *(
            f"data set  {name}: {note}"
            for name, source in prepared.sources.items()
            for note in source.notes
        ),
        f"model     {job.model.architecture}, {experts} experts of {prepared.parameters:,} "
        f"parameters, {height} x {width} pixels, {job.compute.precision} precision",
        f"pixels    {described(as_values(prepared.preprocessing.config))}; from "
        f"{prepared.preprocessing.source}",
        *lines_of_applied(prepared.job.coefficient.calibration, prepared.calibration),
        *passes,
        f"baselines {_prices(job.methods, experts)}",
        _reading(job.compute, [s for of_set in prepared.shards.values() for s in of_set]),
        *_of_ties(prepared),
        *_places(job.compute),
        f"planning  {sum(len(s.listing.files) for s in prepared.sources.values()):,} files listed; "
        f"at most {peak_bytes() / 1e6:,.0f} MB of memory, libraries and weights included",
    ]


def _places(compute: ComputeConfig) -> list[str]:
    """Where the job would run, as far as that is known before a cluster is asked."""
    line = f"compute   device {compute.device}, actors {compute.actors}, "
    address = compute.address or os.environ.get("RAY_ADDRESS")
    if compute.engine == "local" or address is None:
        return [f"{line}on this machine ({os.cpu_count()} CPUs, {gpus_here()} GPUs)"]
    waits = f", up to {compute.wait_for} for nodes still to come" if compute.wait_for else ""
    if compute.device != "auto":
        return [f"{line}on the cluster at {address}{waits}"]
    return [
        f"{line}on the cluster at {address}{waits}",
        "          device auto: the GPUs that are there when the run starts, or else CPUs, for all "
        "of the run; GPUs that are still to come are waited for with device: cuda alone",
    ]


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes, on Linux


def _reading(compute: ComputeConfig, shards: Sequence[Shard]) -> str:
    """How many readers share the shards, as far as this machine tells."""
    here = compute.engine == "local" or not (compute.address or os.environ.get("RAY_ADDRESS"))
    readers = 1 if compute.engine == "local" else os.cpu_count() or 1
    where = "" if here else "; the cluster's CPUs decide"
    return f"reading   with {readers} readers: {forecast(shards, readers)}{where}"


class _Faults:
    """What headers alone tell of a data set's shards: which are broken, and what is rejected."""

    def __init__(self, dataset: str):
        self.dataset = dataset
        self.broken: list[Sample] = []
        self.rejects: Counter[str] = Counter()

    def add(self, sample: Sample) -> None:
        """A sample with an error."""
        if sample.broken:
            self.broken.append(sample)
        else:
            self.rejects[kind_of_reason(sample.error or "")] += 1

    def lines(self) -> list[str]:
        """A line for each broken shard and each kind of reject, as far as a person reads."""
        broken = [
            f"broken    {self.dataset}: {sample.sample_id.rpartition('/')[0]}: {sample.error}"
            for sample in self.broken[:SHOWN_BROKEN]
        ]
        if more := self.broken[SHOWN_BROKEN:]:
            broken.append(f"broken    {self.dataset}: and {len(more):,} more shards")
        return broken + [
            f"rejects   {self.dataset}: {count:,} x {reason}"
            for reason, count in self.rejects.most_common(SHOWN_REASONS)
        ]


def labels_of(prepared: Prepared) -> list[str]:
    """A line for each data set: where its labels come from."""
    return [f"data set  {name}: labels: {s.labels_from}" for name, s in prepared.sources.items()]


def _weights_of_exact(prepared: Prepared) -> str:
    """What the exact mode keeps on a worker, in words; less where tensors are equal in all."""
    experts = len(prepared.job.experts)
    parts = experts + (prepared.job.merge.base is not None)
    together = parts + (experts if prepared.job.one_pass else 0)
    size = together * prepared.parameters * FLOAT32_BYTES / GB
    beside = f"{experts} experts and " if prepared.job.one_pass else ""
    return (
        f"up to {size:.2g} GB of weights in float32 on each worker: {beside}P = {parts} parts of "
        "the exact mode; where precision or rank is lower, these beside the float32 ones"
    )


def _heads_of(prepared: Prepared) -> list[str]:
    """A line for each head that the data sets without one of their own are scored with."""
    heads = {head.key: head for head in prepared.spec.model.heads}
    own = {d.name for d in prepared.job.datasets if d.head or d.expert}
    sets: dict[str, list[str]] = {}
    for name in prepared.shards:
        if name not in own:
            sets.setdefault(prepared.spec.tasks[name].head, []).append(name)
    experts = ", ".join(expert.name for expert in prepared.job.experts)
    lines = []
    for key, names in sets.items():
        head = heads[key]
        if head.zero_shot:
            tower = "merge.base's text tower" if head.of_base else "its own text tower"
            what = f"zero-shot, of {len(head.class_names or ()):,} class names, by {tower}"
        else:
            what = "the one that its checkpoint was saved with"
        lines.append(f"head      {', '.join(names)}: of each expert ({experts}) {what}")
    return lines


def _tasks_of(prepared: Prepared) -> list[str]:
    """A line for each data set with a head of its own or a task's expert, which it names."""
    heads = {head.key: head for head in prepared.spec.model.heads}
    lines = []
    for dataset in prepared.job.datasets:
        if dataset.name not in prepared.shards or not (dataset.head or dataset.expert):
            continue
        task = prepared.spec.tasks[dataset.name]
        head = heads[task.head]
        if head.file is not None:
            what = f"of {head.file}"
        elif head.zero_shot:
            tower = "merge.base" if head.of_base else "each expert"
            what = f"zero-shot, by the text tower of {tower}"
        else:
            what = "that the checkpoints were saved with"
        one = "one for all models" if prepared.job.merge.base or head.shared else "merged too"
        whose = f"; it is the task of {task.expert}" if task.expert else ""
        lines.append(f"head      {dataset.name}: {what}, {one}{whose}")
    return lines


def _prices(methods: Sequence[Method], experts: int) -> str:
    """What each baseline adds, in forwards of one model for a sample."""

    def price(method: Method) -> str:
        about = "about " if method.kind == "samplewise" else ""
        same = "" if method.same_as is None else f", as it is {method.same_as}"
        return f"{about}{method.added(experts)}{same}"

    beside = [f"{m.name} {price(m)}" for m in methods if m.kind != "expert"]
    return f"{', '.join(beside)} (forwards for a sample)" if beside else "none"


def _of_ties(prepared: Prepared) -> list[str]:
    """Of how many values TIES keeps its share, and what that is of the merged ones."""
    ties, trim = prepared.job.baselines.ties, prepared.spec.trim
    if ties is None or trim is None:
        return []
    kept = sorted(100 * count / trim.merged_values for count in trim.merged_kept)
    others = trim.values - trim.merged_values
    return [
        f"ties      keeps {100 * ties.keep:g} % of {trim.values:,} values"
        + (f", {others:,} of which are not the tower's" if others else ", the tower's")
        + f": {kept[0]:.1f} to {kept[-1]:.1f} % of its {trim.merged_values:,}"
    ]
