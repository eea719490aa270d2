"""Data, checkpoints and run directory on S3, emulated by moto, behind a proxy with faults."""

import hashlib
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.errors import UserError
from dawin_ray.storage import credentials, delete, read_bytes, read_many, take_retries
from dawin_ray.storage import files as storage
from dawin_ray.storage import lock as locking
from dawin_ray.storage.objects import StoredObject
from tests.conftest import make_images, write_tar
from tests.integration.conftest import BUCKET, KEY, SECRET
from tests.integration.processes import DRIVER, assert_equal_runs, job_at, job_file, rows
from tests.integration.proxy import FaultyProxy

FAULTS = {503: 0.025, 500: 0.025, "reset": 0.01, "delay": 0.02}


@pytest.mark.slow
def test_a_run_on_faulty_s3_equals_the_local_one(
    small, s3, server, uploaded, tries, aws, tmp_path, monkeypatch
):
    code, output = tries.run(
        DRIVER,
        "",
        0,
        job_at(small, tmp_path / "local", str(uploaded), str(tmp_path / "there"), engine="ray"),
    )
    assert code == 0, output
    proxy = FaultyProxy(server, FAULTS)
    ray_folder = tempfile.mkdtemp(prefix="dawin", dir="/tmp")  # its sockets need a short path
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = {"s3": {"endpoint_url": proxy.address}}
    job = job_at(
        small, tmp_path / "far", f"s3://{BUCKET}", f"s3://{BUCKET}/run", engine="ray",
        storage_options=options,
    )  # fmt: skip
    try:
        code, output = tries.run(DRIVER, "", 0, job)
    finally:
        proxy.stop()
    assert code == 0, output
    s3.get(f"{BUCKET}/run", str(tmp_path / "fetched"), recursive=True)
    assert_equal_runs(tmp_path / "there", tmp_path / "fetched")
    assert not s3.exists(f"{BUCKET}/run/work")
    met = {fault: proxy.met[fault] for fault in FAULTS}
    print(f"{proxy.met.total()} requests, faults {met}; {len(rows(tmp_path / 'fetched'))} "
          "predictions equal to the local run's")  # fmt: skip
    assert all(met.values())

    for path in small.checkpoints[:2]:  # read once, whatever the number of actors and passes
        kept = tmp_path / "cache/dawin_ray/checkpoints"
        assert (kept / hashlib.sha256(Path(path).read_bytes()).hexdigest()).exists()
    written = [output.encode(), *(p.read_bytes() for p in Path(ray_folder).rglob("*.*")
                                  if p.is_file())]  # fmt: skip
    written += [s3.cat_file(path) for path in s3.find(f"{BUCKET}/run")]
    assert len(written) > 20
    assert not any(SECRET.encode() in content for content in written)
    shutil.rmtree(ray_folder)


@pytest.mark.slow
def test_a_run_directory_grows_on_s3(small, s3, uploaded, tries, aws, tmp_path):
    images, root = make_images(24, seed=5), f"{BUCKET}/growing"
    job = job_file(
        small, tmp_path, [{"name": "tars", "path": f"s3://{root}/data"}], f"s3://{root}/run",
        engine="ray", mode="append", mixture={"clusters": "exact"},
    )  # fmt: skip

    def put(name: str, chosen: list[bytes]) -> None:
        s3.put(str(write_tar(tmp_path / name, chosen, None)), f"{root}/data/{name}")

    put("a.tar", images[:8])
    put("b.tar", images[8:16])
    outputs = [tries.run(DRIVER, "", 0, job) for _ in range(2)]
    put("b.tar", images[16:])  # of the same size, it may be: its etag is another
    put("c.tar", images[8:16])
    outputs += [tries.run(DRIVER, "", 0, job) for _ in range(2)]
    assert [code for code, _ in outputs] == [0] * 4, outputs
    assert ["all files are scored" in text for _, text in outputs] == [False, True, False, True]
    s3.get(f"{root}/run", str(tmp_path / "run"), recursive=True)
    found = rows(tmp_path / "run")
    assert len(list((tmp_path / "run" / "batches").iterdir())) == 2
    assert not found.duplicated("sample_id").any()
    assert len(found) == 24
    assert found.groupby("batch").size().tolist() == [8, 16]


@pytest.fixture
def lease(s3, aws, monkeypatch):
    """Path of a lease in the bucket; its times are short."""
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locking, "RENEWAL_SECONDS", 0.1)
    monkeypatch.setattr(locking, "LEASE_SECONDS", 1.0)
    yield f"{BUCKET}/leased/{locking.LOCK}"
    if s3.exists(f"{BUCKET}/leased"):
        s3.rm(f"{BUCKET}/leased", recursive=True)


def test_conditional_writes_are_heeded(s3, lease):
    stored = StoredObject(s3, lease)
    assert StoredObject(s3, f"{lease}.try").heeds_conditions(b"x")
    first = stored.create(b"1", storage.write_whole)
    assert stored.create(b"2", storage.write_whole) is None
    assert stored.create(b"1", storage.write_whole) is None
    second = stored.replace(b"3", first, storage.write_whole)
    assert second not in (None, first)
    assert stored.replace(b"4", first, storage.write_whole) is None
    assert stored.replace(b"3", first, storage.write_whole) == second  # a try that came through
    assert stored.read() == (b"3", second)
    stored.remove()
    assert stored.replace(b"5", second, storage.write_whole) is None
    assert stored.read() is None


def test_a_lease_on_s3_is_taken_renewed_and_given_back(s3, lease, caplog):
    s3.pipe_file(lease, b'{"id": "dead", "pid": 7, "host": "gone"}')
    with locking.exclusive(f"s3://{BUCKET}/leased") as fence:
        before = json.loads(s3.cat_file(lease))
        deadline = time.monotonic() + 20
        while json.loads(s3.cat_file(lease)) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        fence.check(closely=True)
        assert s3.find(f"{BUCKET}/leased") == [lease]  # no flag: the conditions suffice
    assert not s3.exists(lease)
    assert "heeds no conditional writes" not in caplog.text


def test_a_lease_on_s3_that_another_one_took_ends_the_run(s3, lease):
    def hold():
        with locking.exclusive(f"s3://{BUCKET}/leased") as fence:
            s3.pipe_file(lease, b'{"id": "thief", "pid": 9, "host": "other"}')
            with pytest.raises(UserError, match=r"lost the run_dir.*process 9 on other"):
                fence.check(closely=True)

    with pytest.raises(UserError, match="lost the run_dir"):
        hold()
    assert json.loads(s3.cat_file(lease))["id"] == "thief"


def test_on_a_store_that_ignores_conditions_one_goes_on(s3, lease, monkeypatch, caplog):
    import s3fs

    whole = s3fs.S3FileSystem._call_s3

    async def ignoring(self, method, *args, **kwargs):
        kwargs = {k: v for k, v in kwargs.items() if k not in ("IfMatch", "IfNoneMatch")}
        return await whole(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", ignoring)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", mirror_sync_of(ignoring))
    inside, most, refused = [], [], []

    def want():
        try:
            with locking.exclusive(f"s3://{BUCKET}/leased"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.1)
                inside.pop()
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most, default=0) <= 1
    assert len(most) + len(refused) == 3
    assert "heeds no conditional writes" in caplog.text


def mirror_sync_of(method):
    from fsspec.asyn import sync_wrapper

    return sync_wrapper(method)


def test_files_are_read_by_a_request_each_and_deleted_by_one(server, s3, aws):
    proxy = FaultyProxy(server, {})
    storage.configure({"s3": {"endpoint_url": proxy.address, "key": KEY, "secret": SECRET}})
    fs, root = storage.filesystem(f"s3://{BUCKET}/bulk")
    contents = {f"{root}/[{i}]*": bytes([i]) * i for i in range(1, 9)}
    for path, content in contents.items():
        s3.pipe_file(path, content)
    proxy.asked.clear()
    *found, lost = read_many(fs, [*contents, f"{root}/lost"])
    assert found == list(contents.values())
    assert isinstance(lost, FileNotFoundError)
    assert Counter(method for method, _ in proxy.asked.elements()) == {"GET": 9}
    s3.pipe_file(f"{root}/empty", b"")
    assert read_many(fs, [f"{root}/empty"]) == [b""]
    proxy.asked.clear()
    delete(fs, root, [path.rpartition("/")[2] for path in contents])
    assert Counter(method for method, _ in proxy.asked.elements()) == {"POST": 1}
    assert [path.rpartition("/")[2] for path in s3.find(root)] == ["empty"]
    proxy.stop()


def test_requests_that_are_sent_again_are_counted(server, s3, aws):
    proxy = FaultyProxy(server, {})
    storage.configure({"s3": {"endpoint_url": proxy.address, "key": KEY, "secret": SECRET}})
    s3.pipe_file(f"{BUCKET}/again", b"x")
    take_retries()
    try:
        read_bytes(f"s3://{BUCKET}/again", "file")
        assert take_retries() == 0
        proxy.faults = {503: 0.3}
        for _ in range(8):
            assert read_bytes(f"s3://{BUCKET}/again", "file") == b"x"
    finally:
        proxy.stop()
    assert take_retries() == proxy.met[503] > 1
    assert take_retries() == 0


def test_a_wrong_key_is_told(small, s3, uploaded, aws, tmp_path, monkeypatch):
    from moto import settings

    job = job_at(small, tmp_path, f"s3://{BUCKET}", f"s3://{BUCKET}/refused")
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)  # moto knows no key
    result = CliRunner().invoke(app, ["run", str(job)])
    assert result.exit_code == 2, result.output
    assert "credentials and permissions" in result.output
    assert "Access Key Id" in result.output or "Forbidden" in result.output
    assert "Traceback" not in result.output
    assert SECRET not in result.output


def test_a_missing_bucket_is_told(small, s3, uploaded, aws, tmp_path):
    def told(job: Path) -> str:
        result = CliRunner().invoke(app, ["run", str(job)])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        return result.output

    data = told(job_at(small, tmp_path / "a", "s3://nowhere", str(tmp_path / "run")))
    assert "s3://nowhere/data/tars" in data
    run_dir = told(job_at(small, tmp_path / "b", str(uploaded), "s3://nowhere/run"))
    assert "Cannot write" in run_dir
    assert "bucket" in run_dir


@pytest.mark.parametrize("name", ["tars", "folder", "parquet"])
def test_a_storage_that_fails_is_no_reject(server, uploaded, s3, aws, name, monkeypatch):
    import s3fs

    proxy = FaultyProxy(server, {})
    storage.configure(
        {"s3": {"endpoint_url": proxy.address, "config_kwargs": {"retries": {"max_attempts": 1}}}}
    )
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    try:
        config = DatasetConfig(name=name, path=f"s3://{BUCKET}/data/{name}")
        shard = make_shards(config, list_files(config))[0]
        assert all(sample.error is None or "@" in sample.sample_id or sample.image == b"no image"
                   for sample in read_samples(shard))  # fmt: skip
        proxy.faults = {500: 1.0}
        with pytest.raises(UserError, match=f"Cannot read the (shard|image) 's3://{BUCKET}/data"):
            list(read_samples(shard))
    finally:
        proxy.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"s3": {"key": "AKIA"}},
        {"s3": {"secret": "abc"}},
        {"s3": {"client_kwargs": {"aws_secret_access_key": "abc"}}},
        {"s3": {"client_kwargs": {"aws_access_key_id": "abc"}}},
        {"s3": {"endpoint_url": "http://user:abc@127.0.0.1"}},
        {"http": {"token": "abc"}},
    ],
)
def test_credentials_in_options_are_refused(options):
    with pytest.raises(ValueError, match="is a credential") as caught:
        credentials.check_no_secrets(options)
    assert "abc" not in str(caught.value)


def test_plain_options_pass():
    options = {"s3": {"endpoint_url": "http://127.0.0.1:9000", "anon": True, "profile": "x",
                      "client_kwargs": {"region_name": "us-east-1"}}}  # fmt: skip
    credentials.check_no_secrets(options)


@pytest.mark.parametrize(
    "address", ["https://user:abc@host/a.tar", "https://host/a.tar?X-Amz-Signature=abc&x=1"]
)
def test_credentials_in_an_address_are_refused(address):
    with pytest.raises(UserError, match="holds credentials") as caught:
        storage.filesystem(address)
    assert "abc" not in str(caught.value)
