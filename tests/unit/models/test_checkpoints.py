"""A remote checkpoint is read once by a machine; only the one asked for is believed."""

import argparse
import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import fsspec
import pytest
import torch

from dawin_ray.errors import UserError
from dawin_ray.models import checkpoints
from tests.conftest import expert_state


@pytest.fixture
def remote(small, tmp_path, monkeypatch):
    """A checkpoint in memory, as far away as S3 to the code, and an empty folder of copies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs, address = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/expert.safetensors"
    fs.pipe_file(address, Path(small.checkpoints[0]).read_bytes())
    yield address
    if fs.exists(address):
        fs.rm(address)


def assert_first_expert(tensors):
    expected = expert_state(0)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_remote_checkpoint_is_read_once(remote, small):
    digest = checkpoints.checkpoint_digest(remote)
    assert digest == hashlib.sha256(Path(small.checkpoints[0]).read_bytes()).hexdigest()
    fsspec.filesystem("memory").rm(remote)
    assert_first_expert(checkpoints.read_tensors(remote, digest))


def test_a_damaged_copy_is_not_believed(remote):
    digest = checkpoints.checkpoint_digest(remote)
    copy = checkpoints.folder() / digest
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert_first_expert(checkpoints.read_tensors(remote, digest))
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == digest  # mended


def test_another_checkpoint_in_its_place_is_refused(remote, small):
    digest = checkpoints.checkpoint_digest(remote)
    shutil.rmtree(checkpoints.folder())  # as on a machine that joins later
    fsspec.filesystem("memory").pipe_file(remote, Path(small.checkpoints[1]).read_bytes())
    with pytest.raises(UserError, match="changed while the run was being started"):
        checkpoints.read_tensors(remote, digest)


def test_a_local_checkpoint_is_held_to_its_hash_too(small, tmp_path):
    path = tmp_path / "expert.safetensors"
    shutil.copy(small.checkpoints[0], path)
    digest = checkpoints.checkpoint_digest(str(path))
    assert_first_expert(checkpoints.read_tensors(str(path), digest))
    shutil.copy(small.checkpoints[1], path)
    with pytest.raises(UserError, match="changed while the run was being started"):
        checkpoints.read_tensors(str(path), digest)


def test_where_no_copy_can_be_kept_the_checkpoint_is_read_all_the_same(
    remote, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_first_expert(checkpoints.read_tensors(remote, checkpoints.checkpoint_digest(remote)))


def test_a_tag_stands_for_itself():
    assert checkpoints.checkpoint_digest("openai") == "tag openai"


# Files that are no checkpoints


def archive(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name in members:
            out.writestr(name, b"x" * 100)
    return buffer.getvalue()


NO_CHECKPOINTS = {
    "nothing": (b"", "the file is empty"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "error page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "page of HTML"),
    "storage's error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "hub's answer": (b"Entry not found", "it is a text.*'Entry not found'"),
    "index": ('{"weight_map": {"é": "a.safetensors"}}'.encode() * 300, "it is a text"),
    "TorchScript": (archive("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "TorchScript"),
    "old TorchScript": (archive("model.json", "code/m.py", "tensors/0"), "never run here"),
    "npz": (archive("params/kernel.npy", "params/bias.npy"), "NumPy arrays"),
    "npy": (b"\x93NUMPY\x01\x00" + b"\0" * 100, "NumPy array"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
    "GGUF": (b"GGUF\x03\0\0\0" + b"\0" * 100, "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "gzip"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("data", "message"), NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(tmp_path, data, message, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"(?s)a{suffix}' is no valid.*{message}"):
        checkpoints.read_tensors(str(path))


def test_torchscript_is_never_loaded(tmp_path, monkeypatch):
    class Tower(torch.nn.Module):
        def forward(self, x):
            return x

    torch.jit.script(Tower()).save(tmp_path / "ViT-B-32.pt")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was opened"))
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("it was run"))
    with pytest.raises(UserError, match=r"TorchScript archive.*pretrained tag openai"):
        checkpoints.read_tensors(str(tmp_path / "ViT-B-32.pt"))


def test_what_a_pickle_asks_for_is_named(tmp_path):
    torch.save({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"it asks for argparse\.Namespace.*ever unpickled"):
        checkpoints.read_tensors(str(tmp_path / "a.pt"))


def test_a_lightning_file_is_no_tag():
    assert not checkpoints.is_tag("last.ckpt")


def test_the_digest_of_tensors_is_of_names_types_shapes_and_values():
    state = {"a": torch.ones(2, 3), "b": torch.tensor(3, dtype=torch.int64)}
    reference = checkpoints.tensors_digest(state)
    assert checkpoints.tensors_digest(dict(reversed(state.items()))) == reference
    others = [
        state | {"a": torch.ones(3, 2)},
        state | {"a": torch.ones(2, 3).half()},
        state | {"b": torch.tensor(4)},
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"]},
    ]
    assert len({checkpoints.tensors_digest(other) for other in others} | {reference}) == 6
