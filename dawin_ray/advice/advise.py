"""From a job to an advice: prepare, pilot, forecast, judge, recommend."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

import dawin_ray
from dawin_ray.advice.figures import Advice, DatasetAdvice, ModeAdvice
from dawin_ray.advice.gains import Answers, Judged, estimated, gain, judge
from dawin_ray.advice.measured import Measured
from dawin_ray.advice.modes import MODES, Mode
from dawin_ray.advice.options import Option, fit_of, kinds_of, option, ordered
from dawin_ray.advice.pilot import Pilot, run_pilot
from dawin_ray.advice.read import answers_of
from dawin_ray.advice.recommend import recommend
from dawin_ray.advice.words import sentence_of
from dawin_ray.config import make_job
from dawin_ray.engine import Say
from dawin_ray.errors import UserError
from dawin_ray.job import Prepared, prepare
from dawin_ray.runs import FitEntry, SavedFits, Series
from dawin_ray.statistics import ScoredRows

PERCENTILES = (5, 95)  # of coefficients


@dataclass(frozen=True, kw_only=True)
class Advised:
    """An advice, and each mode's job, with the saved fit that it may need."""

    advice: Advice
    options: Mapping[Mode, Option]
    fits: Mapping[Mode, SavedFits]  # see `options.FIT_FILE`


def advise(values: Mapping[str, Any], say: Say, samples: int | None = None) -> Advised:
    """Try a job on few of its samples; its run directory is not touched.

    `values` are those of the job file, and `samples` says how many are tried, where not 1 % of them
    is (500 at least, 20,000 at most). The time from this process's start to here counts as what a
    run would take too.

    Raises:
        UserError: what would keep the job from running, or there is nothing to score.
    """
    process = time.time() - psutil.Process().create_time()
    job, began = make_job(dict(values)), time.monotonic()
    prepared = prepare(job, say=say, progress=say)
    if job.mode == "append":
        new = Series(job.run_dir).unscored(prepared.sources)
        if not new:
            raise UserError(f"All files are scored in {job.run_dir}; there is nothing to try.")
        prepared = prepared.only(new)
    preparing = time.monotonic() - began
    pilot = run_pilot(prepared, say, samples)
    exact = pilot.exact.rows if pilot.exact is not None and pilot.labelled else None
    answers = answers_of(pilot.clustered.rows, exact)
    kinds = kinds_of(job, pilot.labelled)
    if pilot.exact is None:
        del kinds["exact"]
    judged = judge(_counting(answers, job.in_distribution), kinds)
    options: dict[Mode, Option] = {}
    missing: dict[Mode, str] = {} if pilot.exact is not None else {"exact": pilot.no_exact}
    for mode, of_mode in kinds.items():
        kind = judged[mode].chosen if judged else of_mode[0]
        found = option(mode, kind, values, prepared)
        if isinstance(found, str):
            missing[mode] = found
        else:
            options[mode] = found
    agree = min((of_set.agree for of_set in answers.values()), default=None)
    choice = recommend(ordered(options), judged, agree)
    measured = Measured.of(prepared, pilot, process=process, preparing=preparing)
    modes = _modes(options, measured, judged, answers)
    modes += [
        ModeAdvice(mode=mode, kind=mode, what=mode, unavailable=why)
        for mode, why in missing.items()
    ]
    return Advised(
        advice=Advice(
            code=dawin_ray.__version__,
            experts=tuple(expert.name for expert in job.experts),
            mode=choice.mode,
            why=choice.why,
            settled=choice.settled,
            sentence=sentence_of(choice, {mode.mode: mode for mode in modes}),
            open=choice.open,
            modes=tuple(sorted(modes, key=lambda mode: MODES.index(mode.mode))),
            datasets=_datasets(prepared, pilot, answers),
            where=_where(prepared, pilot),
            pilot_samples=pilot.samples,
            pilot_seconds=pilot.seconds,
        ),
        options=options,
        fits={
            mode: _saved(prepared, pilot, found.weights)
            for mode, found in options.items()
            if found.weights is not None
        },
    )


def _counting(answers: Mapping[str, Answers], apart: str | None) -> dict[str, Answers]:
    """The data sets that means are over: as in reports, without the one in distribution."""
    others = {name: of_set for name, of_set in answers.items() if name != apart}
    labelled = any((of_set.label >= 0).any() for of_set in others.values())
    return others if labelled else dict(answers)


def _modes(
    options: Mapping[Mode, Option],
    measured: Measured,
    judged: Mapping[Mode, Judged],
    answers: Mapping[str, Answers],
) -> list[ModeAdvice]:
    guessed = estimated(answers, [found.kind for found in options.values()]) if judged else {}
    first = judged[ordered(options)[0]] if judged else None
    modes = []
    for mode, found in options.items():
        load = measured.load(found.job, merged=found.weights is None)
        asked, experts = load.forwards, load.forwards.experts
        ours = judged.get(mode)
        each = asked.plain + asked.merged + experts * (asked.samplewise + asked.exact)
        single = mode in ("plain", "static")
        modes.append(
            ModeAdvice(
                mode=mode,
                kind=found.kind,
                what=found.what,
                forwards=1 if single else experts + (experts if mode == "exact" else 1),
                job_forwards=each,
                seconds=measured.seconds(load),
                alone=measured.alone(load) if single else None,
                column=found.column,
                accuracy=None if ours is None else ours.accuracy,
                datasets=None if ours is None else ours.datasets,
                estimated={name: of_set[found.kind] for name, of_set in guessed.items()} or None,
                gain=None if ours is None or first is None or ours is first else gain(ours, first),
            )
        )
    return modes


def _datasets(
    prepared: Prepared, pilot: Pilot, answers: Mapping[str, Answers]
) -> dict[str, DatasetAdvice]:
    names, rejects = [expert.name for expert in prepared.job.experts], pilot.rejects
    found = {}
    for name, of_set in answers.items():
        low, high = np.percentile(of_set.coefficient, PERCENTILES, axis=0)
        shares = zip(of_set.coefficient.mean(axis=0), low, high, strict=True)
        means = of_set.entropy.mean(axis=0).tolist()
        found[name] = DatasetAdvice(
            samples=pilot.counts[name].total,
            known=pilot.counts[name].known,
            pilot=pilot.copied[name].samples,
            labelled=int((of_set.label >= 0).sum()),
            rejects=rejects[name],
            entropy=dict(zip(names, means, strict=True)),
            coefficient={
                expert: (float(mean), float(a), float(b))
                for expert, (mean, a, b) in zip(names, shares, strict=True)
            },
            clusters=tuple(np.bincount(of_set.cluster).tolist()),
            agree=of_set.agree,
        )
    return found


def _where(prepared: Prepared, pilot: Pilot) -> str:
    on, compute = pilot.on, pilot.clustered.watched.report.compute
    engine = "in this process" if prepared.job.compute.engine == "local" else "on Ray"
    return (
        f"{on.pool} on {on.device} ({compute.precision}, {on.threads} threads each), "
        f"{on.readers:,} reader{'s' if on.readers > 1 else ''}, {engine}"
    )


def _saved(prepared: Prepared, pilot: Pilot, weights: tuple[float, ...]) -> SavedFits:
    """A fit whose one model has these weights, with how the pilot's samples lay beside it."""
    names = tuple(expert.name for expert in prepared.job.experts)
    datasets = {}
    for name, rows in pilot.clustered.rows.items():
        scored = ScoredRows.of(
            entropy=rows.entropy,
            coefficient=rows.coefficient,
            cluster=np.zeros(len(rows.label), dtype=np.int64),
            expert_prediction=rows.expert_prediction,
        )
        datasets[name] = FitEntry.of(
            fit_of(weights, len(rows.label)),
            names,
            scored,
            count=prepared.spec.classes[name].count,
            classes=prepared.fingerprint["classes"][name],
            texts=prepared.texts[name],
        )
    return SavedFits(
        code=dawin_ray.__version__,
        names=names,
        identity=dict(prepared.identity),
        datasets=datasets,
    )
