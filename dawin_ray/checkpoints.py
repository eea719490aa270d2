"""Checkpoint files: their tensors, their hashes, and a copy of remote ones on each node.

Nothing is ever unpickled. A remote file is read once by each node, into the folder that `folder`
names, under its hash; what lies there is believed only when its bytes have that hash.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, is_local, read_bytes, sha256, write_whole

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def is_tag(address: str) -> bool:
    """Whether this is an open_clip pretrained tag, and no file."""
    return not address.lower().endswith(CHECKPOINT_SUFFIXES) and "/" not in address


def folder() -> Path:
    """This machine's folder of copied checkpoints; it may be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "dawin_ray", "checkpoints")


def checkpoint_digest(address: str) -> str:
    """sha256 of a checkpoint file; a pretrained tag stands for itself.

    Raises:
        UserError: the file cannot be read.
    """
    if is_tag(address):
        return f"tag {address}"
    if is_local(filesystem(address)[0]):
        return sha256(address, "checkpoint")
    data = read_bytes(address, "checkpoint")
    digest = hashlib.sha256(data).hexdigest()
    _keep(digest, data)
    return digest


def read_tensors(address: str, digest: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file, by name.

    Raises:
        UserError: it is missing, no state dict, other than its digest, or would have to be
            unpickled.
    """
    data = _read(address, digest)
    try:
        if address.lower().endswith(".safetensors"):
            state = load_safetensors(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(
            f"The checkpoint {address!r} is no valid safetensors file: {error}"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise almost anything
        raise UserError(
            f"The checkpoint {address!r} is no plain state dict: PyTorch refuses it with "
            "weights_only=True, and nothing is ever unpickled here. Where you trust the file, load "
            "it yourself and save model.state_dict() with safetensors.torch.save_file."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    tensors = (
        {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        if isinstance(state, Mapping)
        else {}
    )
    if not tensors:
        raise UserError(
            f"The checkpoint {address!r} holds no tensors by name: expected a state dict, got "
            f"{type(state).__name__}."
        )
    return tensors


def _read(address: str, digest: str | None) -> bytes:
    """The bytes of a checkpoint file, from this node's copy where there is one."""
    if digest is None:
        return read_bytes(address, "checkpoint")
    remote = not is_local(filesystem(address)[0])
    if remote and (copy := _kept(digest)) is not None:
        return copy
    data = read_bytes(address, "checkpoint")
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(
            f"The checkpoint {address!r} changed while the run was being started: its sha256 is no "
            f"longer {digest}. Run the job again, in a new run_dir or with --restart if this one "
            "has begun."
        )
    if remote:
        _keep(digest, data)
    return data


def _kept(digest: str) -> bytes | None:
    try:
        data = (folder() / digest).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def _keep(digest: str, data: bytes) -> None:
    try:
        write_whole(*filesystem(str(folder() / digest)), data)
    except UserError as error:  # the next actor reads it from afar again
        logger.warning("a checkpoint was not copied to this machine: %s", error)
