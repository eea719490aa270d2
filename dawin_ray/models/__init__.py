"""Checkpoint files -> experts in memory, with the heads and the preprocessing that they share.

The package that knows open_clip: architectures, tags, checkpoint layouts, tokenizers. It may import
`method`, `storage` and what all packages agree on; `data` and what comes after it may import it.
"""

from dawin_ray.models.architecture import architecture_digest, build_model, library_versions
from dawin_ray.models.checkpoints import checkpoint_digest, is_tag
from dawin_ray.models.experts import (
    Classifier,
    Experts,
    create_model,
    load_experts,
    read_checkpoint,
    tag_digest,
)
from dawin_ray.models.heads import check_heads, read_class_names, resolve_head
from dawin_ray.models.layouts import HEAD, Tensors
from dawin_ray.models.precision import Precision, matmul_mode, resolve, tower_dtype
from dawin_ray.models.preprocessing import (
    Preprocessing,
    as_values,
    check_activation,
    described,
    doubt_about_files,
    of_experts,
    preprocessing_fingerprint,
)
from dawin_ray.models.spec import (
    CHECKPOINT_HEAD,
    ExpertConfig,
    HeadSpec,
    ModelConfig,
    ModelSpec,
    digest,
)
from dawin_ray.models.weights import fitted, unused

__all__ = [
    "CHECKPOINT_HEAD",
    "HEAD",
    "Classifier",
    "ExpertConfig",
    "Experts",
    "HeadSpec",
    "ModelConfig",
    "ModelSpec",
    "Precision",
    "Preprocessing",
    "Tensors",
    "architecture_digest",
    "as_values",
    "build_model",
    "check_activation",
    "check_heads",
    "checkpoint_digest",
    "create_model",
    "described",
    "digest",
    "doubt_about_files",
    "fitted",
    "is_tag",
    "library_versions",
    "load_experts",
    "matmul_mode",
    "of_experts",
    "preprocessing_fingerprint",
    "read_checkpoint",
    "read_class_names",
    "resolve",
    "resolve_head",
    "tag_digest",
    "tower_dtype",
    "unused",
]
