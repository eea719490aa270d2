"""TODO face report."""

from dawin_ray.report.compare import as_json, compare_runs, lines_of
from dawin_ray.report.console import footer_of, table_of
from dawin_ray.report.overview import write_overview
from dawin_ray.report.page import REPORTS, write_page
from dawin_ray.report.remake import remake
from dawin_ray.report.rows import read_predictions
from dawin_ray.report.tally import alarms_of, summarise

__all__ = [
    "REPORTS",
    "alarms_of",
    "as_json",
    "compare_runs",
    "footer_of",
    "lines_of",
    "read_predictions",
    "remake",
    "summarise",
    "table_of",
    "write_overview",
    "write_page",
]
