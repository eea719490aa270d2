"""The files that an advice leaves: a job, the fit that it may apply. Nothing is written over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dawin_ray.advice.advise import Advised
from dawin_ray.advice.modes import Mode
from dawin_ray.advice.written import changed_text
from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.records import write_record
from dawin_ray.runs import FINGERPRINT, RunDirectory
from dawin_ray.storage import filesystem, read_bytes, write_whole

SUFFIX = "-advised"  # of a run directory whose name is taken


def fit_address(out: str) -> str:
    """Where the fit of a job file lies: beside it."""
    return f"{os.path.splitext(out)[0]}.fit.json"


def check_free(*addresses: str) -> None:
    """Refuse addresses at which there is something.

    Raises:
        UserError: naming it.
    """
    for address in addresses:
        fs, path = filesystem(address, "out")
        if fs.exists(path):
            raise UserError(f"{address!r} is there already, and nothing is written over. Move it.")


def write_job(
    advised: Advised, job_file: str, values: Mapping[str, Any], out: str, mode: Mode | None = None
) -> list[str]:
    """Write the job file of the recommended mode, or of another, and its fit; what was written.

    `values` are what the job file says with the overrides of the command.

    Raises:
        UserError: there is something already, it cannot be written, or there is no such job.
    """
    chosen = advised.options[mode or advised.advice.mode]
    changed = dict(chosen.values)
    if changed != dict(values) and _is_taken(chosen.job.run_dir):
        changed["run_dir"] = chosen.job.run_dir.rstrip("/") + SUFFIX
    fit = advised.fits.get(chosen.mode)
    written = [out] if fit is None else [out, fit_address(out)]
    if fit is not None:
        changed["fit"] = {**changed["fit"], "from": fit_address(out)}
    check_free(*written)
    text = read_bytes(job_file, "job file").decode()
    header = f"{chosen.what}: as dawin-ray advise made it of {job_file}"
    content = changed_text(text, changed, header)
    make_job(changed, out)
    if fit is not None:
        write_whole(*filesystem(fit_address(out), "out"), write_record(fit))
    write_whole(*filesystem(out, "out"), content.encode())
    return written


def _is_taken(run_dir: str) -> bool:
    """Whether a run has claimed it: another job would be refused there."""
    return RunDirectory(run_dir).exists(FINGERPRINT)
