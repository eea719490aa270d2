"""What kills worker processes, again and again, ends in a reject or in a message; never in a loop.

The doubles die for real, in Ray's own worker processes.
"""

import importlib
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dawin_ray.config import load_job
from dawin_ray.data.chunks import Chunk
from dawin_ray.data.crop_cache import ReadChunks
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.images import ImageDecoder
from dawin_ray.data.slices import Slice
from dawin_ray.engine import compute
from dawin_ray.engine.ray_stream import RayEngine
from dawin_ray.engine.wiring import Wiring
from dawin_ray.errors import StageError, UserError
from dawin_ray.job.prepare import prepare
from dawin_ray.models.preprocessing import Preprocessing
from dawin_ray.passes import Pass
from dawin_ray.runs.directory import RunDirectory
from tests.conftest import make_images, write_tar
from tests.integration.test_ray import nothing

scoring = importlib.import_module("dawin_ray.job.score")
rescoring = importlib.import_module("dawin_ray.job.rescoring")
verify = importlib.import_module("dawin_ray.job.verify")

SEGFAULT, KILLED = b" dies of SIGSEGV", b" dies of SIGKILL"  # behind an image: what it stands for
LIMITED = {"engine": "ray", "cache": "off", "chunk_size": 16, "batch_size": 8, "actors": 1}


class _Said:
    """A progress that keeps its lines."""

    def __init__(self):
        self.lines = []

    def phase(self, name, total):
        from contextlib import nullcontext

        return nullcontext(lambda chunk: None)

    def say(self, message):
        self.lines.append(message)


class _MortalDecoder(ImageDecoder):
    """Stands for a decoder that some images crash."""

    def __call__(self, encoded, border=0):
        if encoded.endswith(SEGFAULT):
            os.kill(os.getpid(), signal.SIGSEGV)
        if encoded.endswith(KILLED):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(encoded, border)


class _MortalImages(DecodeImages):
    def __init__(self, preprocessing, *others):
        super().__init__(preprocessing, *others)
        self.image = _MortalDecoder(preprocessing)


def score(job):
    said = _Said()
    return scoring.score(prepare(load_job(job)), said), said.lines


@pytest.mark.slow
def test_an_image_that_kills_its_decoder_is_a_reject(local_ray, small, tmp_path, monkeypatch):
    """Two of three chunks; all else is as where the same images are only damaged."""
    images = make_images(40)
    runs = {}
    for kind, ends in (("mortal", (SEGFAULT, KILLED)), ("damaged", (None, None))):
        made = list(images)
        for at, end in zip((3, 20), ends, strict=True):
            made[at] = b"no image" if end is None else made[at] + end
        write_tar(tmp_path / kind / "a.tar", made, None)
        job = small.job_file(
            tmp_path / f"{kind}.yaml", tmp_path / f"run_{kind}",
            [{"name": "set", "path": str(tmp_path / kind)}], compute=LIMITED,
        )  # fmt: skip
        if kind == "mortal":
            monkeypatch.setattr(scoring, "DecodeImages", _MortalImages)
        report, runs[kind] = score(job)
        monkeypatch.undo()
        assert (report.datasets[0].rows, report.datasets[0].rejects) == (38, 2)
    rejects = pd.read_parquet(tmp_path / "run_mortal" / "rejects").set_index("sample_id")
    assert "signal 11" in rejects.reason["a.tar/0003"]
    assert "out of memory" in rejects.reason["a.tar/0020"]
    assert rejects.sha256.notna().all()
    for kind in ("experts", "predictions"):
        one, other = (
            pd.read_parquet(tmp_path / f"run_{name}" / kind) for name in ("mortal", "damaged")
        )
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    monkeypatch.setattr(rescoring, "DecodeImages", _MortalImages)
    assert verify.verify(str(tmp_path / "run_mortal"), 1.0, seed=0) == []
    told = [line for line in runs["mortal"] if "a reader died" in line]
    assert sum("(2nd time)" in line and "one by one" in line for line in told) == 2
    assert not any("(3rd time)" in line for line in told)
    assert not any("died" in line for line in runs["damaged"])


class _EndlessDeaths(DecodeImages):
    """Stands for a shard that kills its reader before a sample is known."""

    def _decoder(self, deaths, shard, start):
        super()._decoder(deaths, shard, start)
        os.kill(os.getpid(), signal.SIGKILL)


def shard_of(path) -> Shard:
    return Shard(
        dataset="set", name=path.name, address=str(path), format="webdataset",
        bytes=path.stat().st_size, key="key",
    )  # fmt: skip


class _Scorer:
    """Stands for the models; does to itself what `does` says, at the chunk that begins at 2."""

    merges = 0

    def __init__(self, does):
        self.does, self.feed = does, SimpleNamespace(reached=None)
        if does == "die while loading":
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "fail to load":
            raise OSError("the checkpoint is gone \udcff")
        if does == "no memory to load":
            raise MemoryError("4 GB")

    def __call__(self, chunk: Chunk, read):
        if chunk.name.endswith("2"):
            if self.does == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.does == "fail":
                raise ValueError("a name \udcff\ud800 of the data")
            if self.does == "no memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")
        return {}


class _Reader:
    def counted(self, tries):
        return self


class _Chunks(_Reader):
    """Stands for the reader: three chunks of one image."""

    def __call__(self, part, finished=()):
        shard = part.shard
        for start in range(3):
            yield Chunk(
                name=f"key-{start}", dataset="set", shard=shard.name, shard_key=shard.key,
                sample_ids=[f"sample {start}"], labels=[None],
                images=np.zeros((1, 4, 4, 3), np.uint8),
            )  # fmt: skip


class _UnencodableRead(_Reader):
    def __call__(self, part, finished=()):
        raise UserError(f"the storage fails at '\udcff' of {part.shard.name}")
        yield


class _Spec:
    batch_size, precision = 8, "float32"


def stream(tmp_path, does, read=None):
    tar = write_tar(tmp_path / "a.tar", make_images(4), None)
    on = compute.Resources(device="cpu", actors=1, cpus=0.5, gpus=0, threads=1, readers=1)
    run = RunDirectory(str(tmp_path / "run"))
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=partial(_Scorer, does))
    wiring = Wiring(read=read or _Chunks(), finished=nothing, run=run, on=on)
    return list(
        RayEngine(compute.ComputeConfig()).run(stage, [(Slice(shard=shard_of(tar)),)], wiring)
    )


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("fail to load", r"cannot load its models: OSError: the checkpoint is gone \\xff"),
        pytest.param(
            "no memory to load",
            r"memory of the machine does not suffice to load.*batch_size",
            marks=pytest.mark.slow,
        ),
        ("no memory", r"does not suffice at chunk key-2.*batch_size \(now 8\).*Tried to alloc"),
    ],
)
def test_what_goes_wrong_in_an_actor_is_one_message(local_ray, tmp_path, does, message):
    with pytest.raises(UserError, match=message) as told:
        stream(tmp_path, does)
    assert "attempts" not in str(told.value)  # Ray's own words on how often it tried


def test_an_error_whose_text_cannot_be_encoded_ends_the_run(local_ray, tmp_path):
    with pytest.raises(StageError, match=r"a name \\xff\\xed\\xa0\\x80 of the data"):
        stream(tmp_path, "fail")


@pytest.mark.slow
def test_a_message_of_a_reader_that_cannot_be_encoded_ends_the_run(local_ray, tmp_path):
    with pytest.raises(UserError, match=r"the storage fails at '\\xff' of a.tar"):
        stream(tmp_path, "nothing", _UnencodableRead())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("die", r"3 model actors of pass 1 died one after the other at chunk key-2 of data set "
         r"'set', samples 'sample 2' to 'sample 2'.*batch_size.*actors.*bfloat16"),
        ("die while loading", r"4 model actors of pass 1 died while they loaded.*batch_size"),
    ],
)  # fmt: skip
def test_actors_that_die_again_and_again_end_the_run(local_ray, tmp_path, does, message):
    with pytest.raises(UserError, match=message):
        stream(tmp_path, does)


@pytest.mark.slow
def test_a_shard_that_kills_every_reader_ends_the_run(local_ray, tmp_path):
    preprocessing = Preprocessing.of({"size": (32, 32)})
    read = ReadChunks(_EndlessDeaths(preprocessing, 16, {}))
    with pytest.raises(UserError, match=r"4 worker processes died.*shard 'a.tar'.*chunk_size"):
        stream(tmp_path, "nothing", read)
