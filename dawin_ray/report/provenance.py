"""What a page's figures were made of: models, method, precision, versions. No date: made again,
a page is the same.
"""

from __future__ import annotations

from dawin_ray.config import Job
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.tally import Report
from dawin_ray.runs import FINGERPRINT

SHOWN_HASH = 12  # hexadecimal digits
LIBRARIES = ("torch", "open_clip_torch", "pillow")  # that decide most of a prediction


def provenance_of(finished: FinishedRun, report: Report) -> dict[str, str]:
    """Lines by what they tell; hashes and versions where the run has a fingerprint.

    Raises:
        UserError: its fingerprint is damaged.
    """
    run, job = finished.run, finished.job
    known = run.read_json(FINGERPRINT) if run.exists(FINGERPRINT) else {}
    hashes, libraries = known.get("checkpoints", {}), known.get("libraries", {})

    def of(address: str) -> str:
        digest = hashes.get(address)
        return f"{address} (sha256 {digest[:SHOWN_HASH]}…)" if digest else address

    lines = {"architecture": job.model.architecture}
    if job.merge.base is not None:
        lines["base"] = of(job.merge.base)
    lines |= {expert.name: of(expert.checkpoint) for expert in job.experts}
    lines["method"] = method_of(job)
    if finished.named is not None:
        of_job = f"the job names {job.incumbent or 'none'}"
        lines["incumbent"] = f"{finished.named}, named when this page was made; {of_job}"
    elif job.incumbent is not None:
        lines["incumbent"] = job.incumbent
    lines["precision"] = f"{report.compute.precision}, on {report.compute.device}"
    versions = [f"{name} {libraries[name]}" for name in LIBRARIES if name in libraries]
    if "code" in known:
        versions = [f"dawin_ray {known['code']}", *versions]
    if versions:
        lines["scored with"] = ", ".join(versions)
    return lines


def method_of(job: Job) -> str:
    """How coefficients and groups were made, in a line."""
    saved, measure = job.saved_fit, job.coefficient
    words = [measure.metric + (f" against {measure.target}" if measure.target else "")]
    if measure.offset_adjustment:
        words.append("offset adjustment")
    if measure.reference is not None:
        words.append(f"anchored to {measure.reference} with strength {measure.strength:g}")
    if saved is not None:
        words.append(f"the fit of {saved.dataset or 'each data set'} in {saved.address}")
    elif job.exact:
        words.append("weights of each sample's own")
    else:
        joint = ", fitted to all data sets together" if job.fit == "joint" else ""
        words.append(f"K = {job.mixture.clusters}{joint}")
    return ", ".join(words)
