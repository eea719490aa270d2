"""A remote checkpoint is read once by a machine; only the one asked for is believed."""

import hashlib
import shutil
from pathlib import Path

import fsspec
import pytest
import torch

from dawin_ray import checkpoints
from dawin_ray.errors import UserError
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
