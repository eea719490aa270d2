"""Checkpoint files -> experts in memory, with the heads and the preprocessing that they share.

The package that knows open_clip: architectures, tags, checkpoint layouts, tokenizers. It may import
`method`, `storage` and what all packages agree on; `data` and what comes after it may import it.
"""

from dawin_ray.models.architecture import library_versions
from dawin_ray.models.checkpoints import CHECKPOINT_SUFFIXES, is_tag
from dawin_ray.models.convert.convert import Converted, convert_checkpoint
from dawin_ray.models.experts import Classifier, Experts, create_model, load_experts
from dawin_ray.models.found import Found, find_models
from dawin_ray.models.heads import check_heads, head_of_file, resolve_head, templates_of
from dawin_ray.models.layouts import HEAD, TOWER
from dawin_ray.models.outlines import Outline, has_shapes_of, outline, preprocessing_of
from dawin_ray.models.precision import Precision, matmul_mode, resolve, tower_dtype
from dawin_ray.models.preprocessing import (
    Preprocessing, as_values, described, doubts_of, preprocessing_fingerprint,
)  # fmt: skip
from dawin_ray.models.spec import (
    CHECKPOINT_HEAD, UNTEMPERED, ExpertConfig, HeadConfig, HeadSpec, ModelConfig, ModelSpec,
)  # fmt: skip
from dawin_ray.models.texts import folder_names, known_class_names, read_class_names

__all__ = [
    "CHECKPOINT_HEAD", "CHECKPOINT_SUFFIXES", "HEAD", "TOWER", "UNTEMPERED", "Classifier",
    "Converted", "ExpertConfig", "Experts", "Found", "HeadConfig", "HeadSpec", "ModelConfig",
    "ModelSpec", "Outline", "Precision", "Preprocessing", "as_values", "check_heads",
    "convert_checkpoint", "create_model", "described", "doubts_of", "find_models", "folder_names",
    "has_shapes_of", "head_of_file", "is_tag", "known_class_names", "library_versions",
    "load_experts", "matmul_mode", "outline", "preprocessing_fingerprint", "preprocessing_of",
    "read_class_names", "resolve", "resolve_head", "templates_of", "tower_dtype",
]  # fmt: skip
