"""Score what has come since the last time, and say whether it has drifted: for a scheduler.

    python jobs/score_new.py jobs/score_new.yaml [key=value ...]
    ray job submit --working-dir . -- python jobs/score_new.py jobs/score_new.yaml

Safe to run at any time, twice, or after a week: files that were scored as they are now are left
alone, and what a killed run had finished is kept. The last line of the output is JSON, for the
scheduler's log. Exit codes are those of `dawin-ray run --fail-on-drift`: 0, all rows are accounted
for; 2, something is wrong with the job or its data, and the message says what; 3, all rows are
scored, but the batch has drifted from its fit; 143, a scheduler asked to stop (SIGTERM), and the
same command resumes.
"""

import json
import sys

from rich.console import Console

from dawin_ray.cli import EXIT_DRIFT
from dawin_ray.config import load_job
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import prepare
from dawin_ray.job.progress import ConsoleProgress
from dawin_ray.job.score import score
from dawin_ray.report import alarms_of
from dawin_ray.stopping import Stopped


def main() -> int:
    """Score the new files of the job that the command line names; returns the exit code."""
    job_file, *overrides = sys.argv[1:]
    try:
        job = load_job(job_file, ["mode=append", *overrides])
        report = score(prepare(job), ConsoleProgress(Console(stderr=True)))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    line = {
        "batch": report.batch,
        "rows": {row.dataset: row.rows for row in report.datasets},
        "rejects": {row.dataset: row.rejects for row in report.datasets},
        "drift": alarms_of(report),
        "report": f"{report.run_dir}/report.html",
    }
    print(json.dumps(line))
    return EXIT_DRIFT if line["drift"] else 0


if __name__ == "__main__":
    sys.exit(main())
