"""TODO face runs."""

from dawin_ray.runs.broken import COLUMNS, SHOWN_BROKEN, BrokenShard, broken_shards, words_of
from dawin_ray.runs.directory import RunDirectory, State
from dawin_ray.runs.fits import (
    FIT,
    Saved,
    SavedFitConfig,
    document_of,
    entry_of,
    load_saved,
    saved_reference,
)
from dawin_ray.runs.inventory import differences, files_of
from dawin_ray.runs.layout import (
    AUDIT,
    BATCHES,
    CLASSES,
    CSV,
    DATA,
    FINGERPRINT,
    LEDGER,
    MANIFEST,
    MIXTURE,
    PAGE,
    SHARDS,
    WORK,
)
from dawin_ray.runs.ledger import PassLedger
from dawin_ray.runs.manifest import checked, manifest_of, reseal
from dawin_ray.runs.seals import OF_LABELS, of_manifest, of_outputs, of_strangers
from dawin_ray.runs.series import Series, shards_of
from dawin_ray.runs.usable import SHOWN_REASONS, check_shard, check_usable, kind_of

__all__ = [
    "AUDIT",
    "BATCHES",
    "CLASSES",
    "COLUMNS",
    "CSV",
    "DATA",
    "FINGERPRINT",
    "FIT",
    "LEDGER",
    "MANIFEST",
    "MIXTURE",
    "OF_LABELS",
    "PAGE",
    "SHARDS",
    "SHOWN_BROKEN",
    "SHOWN_REASONS",
    "WORK",
    "BrokenShard",
    "PassLedger",
    "RunDirectory",
    "Saved",
    "SavedFitConfig",
    "Series",
    "State",
    "broken_shards",
    "check_shard",
    "check_usable",
    "checked",
    "differences",
    "document_of",
    "entry_of",
    "files_of",
    "kind_of",
    "load_saved",
    "manifest_of",
    "of_manifest",
    "of_outputs",
    "of_strangers",
    "reseal",
    "saved_reference",
    "shards_of",
    "words_of",
]
