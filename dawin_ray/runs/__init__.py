"""The run directory: what a run has written, is writing, and may go on from. Rows, no models.

`RunDirectory` is claimed, resumed or refused; `run.work` has a file a chunk while it runs,
`run.parts` the tables that these become (`compact`). `Series` is a directory that grows by batches,
each of them such a run. Every JSON file of a run is a record with one writer and one reader:
`Manifest`, `Mixtures`, `SavedFits`, and others that stay inside. `PassLedger` and `check_shard` see
to it that no row is lost; `faults_of_*` and `unlisted_files` say what is wrong with a finished run.

Imports data, method, statistics, storage and what is below them. Imported by engine, report, job
and what is above them; `passes` and this package do not know each other.
"""

from dawin_ray.runs.broken import (
    BROKEN_COLUMNS, SHOWN_BROKEN, BrokenShard, broken_shards, words_of_broken,
)  # fmt: skip
from dawin_ray.runs.class_names import ClassNames, read_class_names, write_class_names
from dawin_ray.runs.compaction import Compaction, compact, plan_compaction
from dawin_ray.runs.directory import RunDirectory, State
from dawin_ray.runs.fits import (
    FitEntry, GroupFit, Mixtures, Saved, SavedFitConfig, SavedFits, load_saved, saved_reference,
)  # fmt: skip
from dawin_ray.runs.folder import Output, Part
from dawin_ray.runs.inventory import changed_files, files_of
from dawin_ray.runs.layout import (
    AUDIT, BATCHES, CLASSES, CSV, DATA, FINGERPRINT, FIT, INDEX, JOB, LEDGER, MANIFEST, MIXTURE,
    PAGE, SHARDS, WORK,
)  # fmt: skip
from dawin_ray.runs.ledger import PassLedger, RowsLostError, check_shard
from dawin_ray.runs.manifest import Manifest, SeriesManifest, manifest_of, reseal
from dawin_ray.runs.parts import Parts
from dawin_ray.runs.seals import (
    FIGURES_OF_LABELS, faults_of_manifest, faults_of_outputs, unlisted_files,
)  # fmt: skip
from dawin_ray.runs.series import Series, shards_of
from dawin_ray.runs.usable import SHOWN_REASONS, check_usable, kind_of_reason
from dawin_ray.runs.work import Mark, Work

__all__ = [
    "AUDIT", "BATCHES", "BROKEN_COLUMNS", "CLASSES", "CSV", "DATA", "FIGURES_OF_LABELS",
    "FINGERPRINT", "FIT", "INDEX", "JOB", "LEDGER", "MANIFEST", "MIXTURE", "PAGE", "SHARDS",
    "SHOWN_BROKEN", "SHOWN_REASONS", "WORK", "BrokenShard", "ClassNames", "Compaction", "FitEntry",
    "GroupFit", "Manifest", "Mark", "Mixtures", "Output", "Part", "Parts", "PassLedger",
    "RowsLostError", "RunDirectory", "Saved", "SavedFitConfig", "SavedFits", "Series",
    "SeriesManifest", "State", "Work", "broken_shards", "changed_files", "check_shard",
    "check_usable", "compact", "faults_of_manifest", "faults_of_outputs", "files_of",
    "kind_of_reason", "load_saved", "manifest_of", "plan_compaction", "read_class_names", "reseal",
    "saved_reference", "shards_of", "unlisted_files", "words_of_broken", "write_class_names",
]  # fmt: skip
