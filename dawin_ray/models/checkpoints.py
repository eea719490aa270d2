"""Checkpoint files: their tensors, their hashes, and a copy of remote ones on each node.

Nothing is ever unpickled. A remote file is read once by each node, into the folder that `folder`
names, under its hash; what lies there is believed only when its bytes have that hash.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import logging
import os
import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from dawin_ray.errors import UserError
from dawin_ray.models.convert.archive import ZIP, Archive
from dawin_ray.models.layouts import state_dict_of
from dawin_ray.storage import (
    LFS_POINTER,
    filesystem,
    is_local,
    lfs_pointer,
    read_bytes,
    sha256,
    write_whole,
)

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

# How files begin that are no checkpoints of PyTorch.
KNOWN_FILES = {
    b"\x89HDF": "it is an HDF5 file, as TensorFlow and Keras save weights. Give a checkpoint of "
    "open_clip's model",
    b"GGUF": "it is a GGUF file of quantised weights. Give a checkpoint of open_clip's model",
    b"\x93NUMPY": "it is one NumPy array. Give a state dict",
    b"\x1f\x8b": "it is compressed with gzip. Unpack it first",
}

TEXT_BYTES = 4096  # of a file, that tell whether it is a text

SHOWN_BYTES = 60  # of it in a message

ASKED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message


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


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 of tensors by name, type, shape and value: for weights that are no file of ours."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def read_tensors(address: str, digest: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file, by name.

    Raises:
        UserError: it is missing, no state dict, other than its digest, or would have to be
            unpickled.
    """
    data = _read(address, digest)
    content: Any
    if (what := no_checkpoint(data)) is not None:
        kind = "safetensors file" if address.lower().endswith(".safetensors") else "state dict"
        raise UserError(f"The checkpoint {address!r} is no valid {kind}: {what}.")
    try:
        # by its content: some are saved under the other suffix
        if not data.startswith(ZIP) and like_safetensors(data, address):
            content = load_safetensors(data)
        else:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(
            f"The checkpoint {address!r} is no valid safetensors file: {error}"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise almost anything
        asked = ASKED_GLOBAL.search(str(error))
        raise UserError(
            f"The checkpoint {address!r} is no plain state dict: PyTorch refuses it with "
            f"weights_only=True{f' (it asks for {asked[1]})' if asked else ''}, and nothing is "
            f"ever unpickled here. {_remedy(data, address)}"
        ) from error
    return state_dict_of(content, address)


def _remedy(data: bytes, address: str) -> str:
    """What to do with a file that torch refuses: `dawin-ray convert`, where that can read it."""
    save = "load it yourself and save model.state_dict() with safetensors.torch.save_file."
    try:
        Archive(data, address)
    except UserError:
        return f"Where you trust the file, {save}"
    target = f"{address.rpartition('.')[0]}.safetensors"
    return (
        "Its tensors can be read without running any of it: "
        f"dawin-ray convert {shlex.quote(address)} {shlex.quote(target)}. Or {save}"
    )


def like_safetensors(data: bytes, address: str) -> bool:
    """Whether it begins with the length of a JSON object and its brace, or is called so."""
    return data[8:9] == b"{" or address.lower().endswith(".safetensors")


def no_checkpoint(data: bytes) -> str | None:
    """What a file is that nobody can take for a checkpoint, and what to do; None for others.

    Of an archive only the list of its members is read.
    """
    if not data:
        return "the file is empty. Copy or download it again"
    if lfs_pointer(data):
        return LFS_POINTER
    for beginning, what in KNOWN_FILES.items():
        if data.startswith(beginning):
            return what
    text = data[:TEXT_BYTES].strip().replace(b"\r", b"")
    if text[:1] == b"<":
        return (
            "it is a page of HTML or XML, as a server sends with an error or for a login. Download "
            f"the file itself again; the page begins {_shown(text)}"
        )
    if _is_text(text):
        return f"it is a text, not a file of weights: {_shown(text)}. Download the file itself"
    return _no_archive_of_weights(data) if data.startswith(ZIP) else None


def _no_archive_of_weights(data: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None  # torch says what is wrong with it
    # below the archive's own name, which may be any; the oldest have a model.json
    inner = {name.split("/", 1)[-1] for name in members}
    if inner & {"constants.pkl", "model.json"} or any(n.startswith("code/") for n in inner):
        return (
            "it is a TorchScript archive, which is code and is never run here. For OpenAI's "
            "own weights use the pretrained tag openai; else, where you trust it, save "
            "torch.jit.load(...).state_dict() with safetensors.torch.save_file"
        )
    if members and all(name.endswith(".npy") for name in members):
        return (
            "it holds NumPy arrays (.npz), as JAX models are saved. Give them open_clip's "
            "names first, and save them with safetensors.torch.save_file"
        )
    return None


def _is_text(beginning: bytes) -> bool:
    try:  # the last character may be cut
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return text.translate({ord("\n"): None, ord("\t"): None}).isprintable()


def _shown(text: bytes) -> str:
    return repr(text[:SHOWN_BYTES].decode(errors="replace"))


def _read(address: str, digest: str | None) -> bytes:
    """The bytes of a checkpoint file, from this node's copy where there is one."""
    if digest is None:
        return read_bytes(address, "checkpoint")
    remote = not is_local(filesystem(address)[0])
    if remote and (copy := _kept(digest)) is not None:
        return copy
    data = read_bytes(address, "checkpoint")
    if hashlib.sha256(data).hexdigest() != digest:
        raise changed("checkpoint", address, digest)
    if remote:
        _keep(digest, data)
    return data


def changed(what: str, address: str, digest: str) -> UserError:
    """The error for an input that is no longer what the run began with."""
    return UserError(
        f"The {what} {address!r} changed while the run was being started: its sha256 is no longer "
        f"{digest}. Run the job again, in a new run_dir or with --restart if this one has begun."
    )


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
