"""open_clip's models: of a name that it knows, or of a model config in a file.

The digest of a config is of its content: the same for a file and for open_clip's own, and held
against what each worker finds, so that a file that is edited while a run starts is noticed.
"""

from __future__ import annotations

import difflib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from dawin_ray.errors import UserError
from dawin_ray.models import clip
from dawin_ray.models.checkpoints import changed
from dawin_ray.records import digest as digest_of
from dawin_ray.storage import read_bytes

# Libraries whose versions change bits of a result: decoding, resizing, tokens, towers, arithmetic.
LIBRARIES = ("open_clip_torch", "pillow", "timm", "torch", "torchvision")

TOKENIZERS = ("transformers", "tokenizers")  # of architectures with a text tower of theirs

# A torch module with what its class has: `visual` with a `preprocess_cfg`, `logit_scale`, towers.
OpenClipModel: TypeAlias = Any  # open_clip has no types

OF_FILES: set[str] = set()  # open_clip's names for configs of files, in this process

EMPTY_MODEL = "No pretrained weights loaded"  # begins open_clip's warning: we load them ourselves


def library_versions(architecture: str) -> dict[str, str | None]:
    """The versions of the libraries that change bits, by package; None of one that is not there."""
    text = clip.get_model_config(register(architecture)).get("text_cfg", {})
    others = TOKENIZERS if {"hf_tokenizer_name", "hf_model_name"} & text.keys() else ()
    return {name: _version(name) for name in (*LIBRARIES, *others)}


def architecture_digest(architecture: str) -> str:
    """sha256 of the architecture's config, whatever its spaces and the order of its keys."""
    return digest_of(config_of(architecture))


def register(architecture: str, digest: str | None = None) -> str:
    """open_clip's name for an architecture; a config file is registered under a name of its own.

    Raises:
        UserError: it is unknown, no config, or no longer the one with this digest.
    """
    config = config_of(architecture)
    found = digest_of(config)
    if digest is not None and found != digest:
        if architecture.endswith(".json"):
            raise changed("model config", architecture, digest)
        raise UserError(
            f"open_clip {clip.__version__} on this machine has another {architecture!r} than "
            "where the run was started. Install the same version everywhere."
        )
    if not architecture.endswith(".json"):
        return architecture
    # open_clip names a config by its file; the hash keeps two files of one name apart
    name = f"{Path(architecture).stem}-{found[:12]}"
    if name not in clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.json")
            path.write_text(json.dumps(config))
            clip.add_model_config(path)
        OF_FILES.add(name)
    return name


def build_model(
    architecture: str, preprocess: Mapping[str, Any], pretrained: str | None = None,
    digest: str | None = None,
) -> OpenClipModel:  # fmt: skip
    """open_clip's model of an architecture, without weights unless a pretrained tag is given.

    `preprocess` are values of its preprocessing that are not the default.

    Raises:
        UserError: the architecture is unknown, or its config file cannot be used.
    """
    name = register(architecture, digest)
    with _without_the_warning_of_an_empty_model():
        try:
            return clip.create_model(
                name,
                pretrained=pretrained,
                load_weights=pretrained is not None,
                pretrained_text=False,
                force_preprocess_cfg=dict(preprocess),
            )
        except Exception as error:  # a wrong value in a config fails anywhere in open_clip
            what = f"with the weights '{pretrained}'" if pretrained else "from its config"
            raise UserError(
                f"open_clip cannot build the architecture {architecture!r} {what}: {error}"
            ) from error


def config_of(architecture: str) -> dict[str, Any]:
    """open_clip's config of an architecture, by its name or of a file.

    Raises:
        UserError: it is unknown, or the file is no config.
    """
    if not architecture.endswith(".json"):
        if architecture not in clip.list_models():
            near = difflib.get_close_matches(architecture, clip.list_models(), n=3)
            raise UserError(
                f"Unknown architecture {architecture!r}: open_clip has no model of that name, and "
                "it is no path of a model config (.json)."
                + (f" Did you mean {', '.join(near)}?" if near else "")
            )
        known: dict[str, Any] = clip.get_model_config(architecture)
        return known
    data = read_bytes(architecture, "model config")
    try:
        config: dict[str, Any] = json.loads(data)
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - config.keys()
    except (ValueError, AttributeError) as error:
        raise UserError(f"The model config {architecture!r} is no JSON object: {error}") from error
    if missing:
        raise UserError(f"The model config {architecture!r} lacks {', '.join(sorted(missing))}.")
    return config


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def _without_the_warning_of_an_empty_model() -> Iterator[None]:
    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(EMPTY_MODEL)

    logging.root.addFilter(wanted)
    try:
        yield
    finally:
        logging.root.removeFilter(wanted)
