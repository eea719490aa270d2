"""The run directory: what a run has written, is writing, and may go on from. Rows, no models.

`RunDirectory` is claimed, resumed or refused; `run.work` has a file a chunk while it runs,
`run.parts` the tables that these become, part by part: `plan_parts`, `make_experts` and
`make_predictions`. `Series` is a directory that grows by batches, each of them such a run. Every
JSON file of a run is a record with one writer and one reader: `Manifest`, `Mixtures`, `SavedFits`,
and others that stay inside. `PassLedger` and the making of parts see to it that no row is lost;
`faults_of_*` and `unlisted_files` say what is wrong with a finished run.

Imports data, method, statistics, storage and what is below them. Imported by engine, report, job
and what is above them; `passes` and this package do not know each other.
"""

from dawin_ray.runs.broken import SHOWN_BROKEN, BrokenShard, words_of_broken
from dawin_ray.runs.calibrations import (
    CalibratedDataset, Calibration, Gain, identity_of_calibration,
)  # fmt: skip
from dawin_ray.runs.class_names import ClassNames, read_class_names, write_class_names
from dawin_ray.runs.directory import RunDirectory, State
from dawin_ray.runs.fits import (
    FitEntry, GroupFit, Mixtures, Saved, SavedFitConfig, SavedFits, load_saved, saved_reference,
)  # fmt: skip
from dawin_ray.runs.folder import Output, Part
from dawin_ray.runs.inventory import changed_files, files_of
from dawin_ray.runs.layout import (
    AUDIT, BATCHES, CARD, CLASSES, CSV, DATA, FINGERPRINT, FIT, INDEX, JOB, LEDGER, MANIFEST,
    MIXTURE, PAGE, SHARDS, WORK,
)  # fmt: skip
from dawin_ray.runs.ledger import PassLedger, RowsLostError
from dawin_ray.runs.making import log_expertise_of, make_experts, make_predictions
from dawin_ray.runs.manifest import Manifest, SeriesManifest, manifest_of, reseal
from dawin_ray.runs.part_records import ExpertsPart, PredictionsPart
from dawin_ray.runs.parts import Parts, part_name
from dawin_ray.runs.planning import PartPlan, count_chunks, plan_counting, plan_parts
from dawin_ray.runs.scored import Compared, rows_of
from dawin_ray.runs.row_ranges import rows_between
from dawin_ray.runs.seals import (
    FIGURES_OF_LABELS, faults_of_manifest, faults_of_outputs, unlisted_files,
)  # fmt: skip
from dawin_ray.runs.series import Series, shards_of
from dawin_ray.runs.spread import Spread, plan_spreads, repeated_names
from dawin_ray.runs.summaries import rows_in_blocks, summary_of, table_in_blocks
from dawin_ray.runs.summing import Merging, merge_summaries, plan_merging, read_summary
from dawin_ray.runs.task_lists import sent_of, text_of
from dawin_ray.runs.usable import SHOWN_REASONS, broken_of, check_usable, kind_of_reason
from dawin_ray.runs.work import Mark, Work

__all__ = [
    "AUDIT", "BATCHES", "CARD", "CLASSES", "CSV", "DATA", "FIGURES_OF_LABELS", "FINGERPRINT",
    "FIT", "INDEX", "JOB", "LEDGER", "MANIFEST", "MIXTURE", "PAGE", "SHARDS", "SHOWN_BROKEN",
    "SHOWN_REASONS", "WORK", "BrokenShard", "CalibratedDataset", "Calibration", "ClassNames",
    "Compared", "ExpertsPart", "FitEntry", "Gain", "GroupFit", "Manifest", "Mark", "Merging",
    "Mixtures", "Output", "Part", "PartPlan", "Parts", "PassLedger", "PredictionsPart",
    "RowsLostError", "RunDirectory", "Saved", "SavedFitConfig", "SavedFits", "Series",
    "SeriesManifest", "Spread", "State", "Work", "broken_of", "changed_files", "check_usable",
    "count_chunks", "faults_of_manifest", "faults_of_outputs", "files_of",
    "identity_of_calibration", "kind_of_reason", "load_saved", "log_expertise_of", "make_experts",
    "make_predictions", "manifest_of", "merge_summaries", "part_name", "plan_counting",
    "plan_merging", "plan_parts", "plan_spreads", "read_class_names", "read_summary",
    "repeated_names", "reseal", "rows_between", "rows_in_blocks", "rows_of", "saved_reference",
    "sent_of", "shards_of", "summary_of", "table_in_blocks", "text_of", "unlisted_files",
    "words_of_broken", "write_class_names",
]  # fmt: skip
