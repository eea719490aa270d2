"""A finished run's files, counted and shown: report.json, the audit, pages, pictures, comparisons.

No model and no Ray: all is made of the Parquet and JSON that a run left, and made again it is the
same. `tally` counts (report.json), `audit` judges (audit.json; `figures` are its records), and
console, page, overview and compare show, each expert by its name. May import what stands before it
(storage, method, statistics, data, passes, runs, engine, config); job/ and the command use it.
"""

from dawin_ray.report.compare import compare_runs, comparison_json, comparison_lines
from dawin_ray.report.console import footer_of, tables_of
from dawin_ray.report.figures import Audit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.links import served
from dawin_ray.report.overview import write_overview
from dawin_ray.report.page import PAGE_FILES, no_formula, write_page
from dawin_ray.report.remake import check_incumbent, remake_reports
from dawin_ray.report.rows import read_predictions
from dawin_ray.report.tally import ComputeReport, Report, Scored, alarms_of, summarise

__all__ = [
    "PAGE_FILES", "Audit", "ComputeReport", "FinishedRun", "Report", "Scored", "alarms_of",
    "check_incumbent", "compare_runs", "comparison_json", "comparison_lines", "footer_of",
    "no_formula", "read_predictions", "remake_reports", "served", "summarise", "tables_of",
    "write_overview", "write_page",
]  # fmt: skip
