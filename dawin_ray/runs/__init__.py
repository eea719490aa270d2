"""The run directory: what a run has written, is writing, and may go on from. Rows, no models.

`RunDirectory` is claimed, resumed or refused; `run.work` has a file a chunk while it runs,
`run.parts` the tables that these become (`compact`). `Series` is a directory that grows by batches,
each of them such a run. Every JSON file of a run is a record with one writer and one reader:
`Manifest`, `Mixtures`, `SavedFits`, and others that stay inside. `PassLedger` and `check_shard` see
to it that no row is lost; the functions `of_*` say what is wrong with a finished run.

Imports data, method, statistics, storage and below; `passes` and this package do not know each
other. Imported by engine, report, job and above.
"""

from dawin_ray.runs.broken import COLUMNS, SHOWN_BROKEN, broken_shards, words_of
from dawin_ray.runs.class_names import ClassNames, read_class_names, write_class_names
from dawin_ray.runs.compaction import Compaction, compact, plan_compaction
from dawin_ray.runs.directory import RunDirectory, State
from dawin_ray.runs.fits import (
    FitEntry,
    GroupFit,
    Mixtures,
    Saved,
    SavedFitConfig,
    SavedFits,
    ScoredRows,
    load_saved,
    saved_reference,
)
from dawin_ray.runs.folder import Output, Part
from dawin_ray.runs.inventory import differences, files_of
from dawin_ray.runs.layout import (
    AUDIT,
    BATCHES,
    CLASSES,
    CSV,
    DATA,
    FINGERPRINT,
    FIT,
    JOB,
    LEDGER,
    MANIFEST,
    MIXTURE,
    PAGE,
    SHARDS,
    WORK,
    Kind,
)  # fmt: skip
from dawin_ray.runs.ledger import PassLedger
from dawin_ray.runs.manifest import Manifest, SeriesManifest, manifest_of, reseal
from dawin_ray.runs.parts import Parts
from dawin_ray.runs.seals import OF_LABELS, of_manifest, of_outputs, of_strangers
from dawin_ray.runs.series import Series, shards_of
from dawin_ray.runs.usable import (
    SHOWN_REASONS,
    RowsLostError,
    check_shard,
    check_usable,
    kind_of,
)  # fmt: skip
from dawin_ray.runs.work import Mark, Work

__all__ = [
    "AUDIT", "BATCHES", "CLASSES", "COLUMNS", "CSV", "DATA", "FINGERPRINT", "FIT", "JOB", "LEDGER",
    "MANIFEST", "MIXTURE", "OF_LABELS", "PAGE", "SHARDS", "SHOWN_BROKEN", "SHOWN_REASONS", "WORK",
    "ClassNames", "Compaction", "FitEntry", "GroupFit", "Kind", "Manifest", "Mark", "Mixtures",
    "Output", "Part", "Parts", "PassLedger", "RowsLostError", "RunDirectory", "Saved",
    "SavedFitConfig", "SavedFits", "ScoredRows", "Series", "SeriesManifest", "State", "Work",
    "broken_shards", "check_shard", "check_usable", "compact", "differences", "files_of", "kind_of",
    "load_saved", "manifest_of", "of_manifest", "of_outputs", "of_strangers", "plan_compaction",
    "read_class_names", "reseal", "saved_reference", "shards_of", "words_of", "write_class_names",
]  # fmt: skip
