"""No credential gets into a job, and none that was refused into a message."""

import fsspec
import pytest
import yaml

from dawin_ray.config import load_job, make_job
from dawin_ray.errors import UserError
from dawin_ray.storage import files as storage
from dawin_ray.storage.credentials import check_address, check_no_secrets

SECRET = "hunter2-wJalrXUt"
JOB = {
    "run_dir": "runs/x", "model": {"architecture": "ViT-B-32"},
    "experts": [{"name": "a", "checkpoint": "a.pt"}, {"name": "b", "checkpoint": "b.pt"}],
    "datasets": [{"name": "s", "path": "data"}],
}  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"s3": {"key": SECRET}},
        {"s3": {"client_kwargs": {"aws_session_token": SECRET}}},
        {"s3": {"config_kwargs": {"proxies": {"https": SECRET}}}},
        {"s3": {"config_kwargs": {"s3": {"signing": SECRET}}}},
        {"s3": {"endpoint_url": f"http://u:{SECRET}@h"}},
        {"s3": {"endpoint_url": [f"http://h/?a={SECRET}"]}},
        {"s3": {"client_kwargs": [SECRET]}},
        {"s3": {"profile": f"https://h/?sig={SECRET}"}},
        {"S3": {"Secret": SECRET}},
        {"http": {"headers": {"Authorization": f"Bearer {SECRET}"}}},
        {"https": {"client_kwargs": {"cookies": {"session": SECRET}}}},
        {"abfs": {"connection_string": f"AccountKey={SECRET}"}},
        {"gcs": {"token": {"private_key": SECRET}}},
        {"gcs": {"session_kwargs": {"headers": [SECRET]}}},
        {"ssh": {"pkey": SECRET}},
        {"oci": {"anything": SECRET}},
        {"filecache": {"target_options": {"key": SECRET}}},
        {"simplecache": {"timeout": {"key": SECRET}}},
        {"s3": {SECRET * 20: 1}},
    ],
)
def test_options_that_are_not_on_the_list_are_refused(options):
    with pytest.raises(UserError) as caught:
        make_job(JOB | {"storage_options": options})
    assert SECRET not in str(caught.value)
    assert f"storage_options.{next(iter(options))}" in str(caught.value)


def test_a_refused_option_is_named_with_those_that_are_allowed():
    with pytest.raises(ValueError, match=r"s3\.client_kwargs\.auth is a credential.*region_name"):
        check_no_secrets({"s3": {"client_kwargs": {"auth": SECRET}}})
    with pytest.raises(ValueError, match=r"s3\.colour is none of the options.*endpoint_url"):
        check_no_secrets({"s3": {"colour": "blue"}})


@pytest.mark.parametrize(
    "options",
    [
        {"s3": {"endpoint_url": "http://127.0.0.1:9000", "anon": True, "profile": "x",
                "requester_pays": False, "default_block_size": 1 << 20, "use_ssl": False,
                "client_kwargs": {"region_name": "us-east-1", "verify": "/ca.pem"},
                "config_kwargs": {"retries": {"max_attempts": 3, "mode": "standard"},
                                  "connect_timeout": 5, "s3": {"addressing_style": "path"}}}},
        {"gcs": {"project": "p", "requester_pays": True}},
        {"abfs": {"account_name": "a", "anon": False}},
        {"http": {"block_size": 1 << 20}, "file": {"auto_mkdir": True}, "oci": {"timeout": 3}},
    ],
)  # fmt: skip
def test_what_a_job_needs_is_allowed(options):
    assert make_job(JOB | {"storage_options": options}).storage_options == options


ADDRESSES = [
    f"https://user:{SECRET}@h/x",
    f"HTTPS://{SECRET}@h/x",
    f"https://h/x?X-Goog-Signature={SECRET}",
    f"https://h/x?ok&x-AMZ-signature={SECRET}",
    f"https://acc.blob.core.windows.net/c/b?sv=1&se=2&sp=r&sig={SECRET}",
    f"https://h/x?Expires=1;AWSAccessKeyId={SECRET}",
    f"https://h/x?a%63cess_token={SECRET}",
    f"https://h/x#access_token={SECRET}",
    f"https://h/x?{SECRET}",
    f"s3://bucket/x?versionId=3&password={SECRET}",
    f"simplecache::https://h/x?api_key={SECRET}",
    f"zip://a.tar::s3://key:{SECRET}@bucket/x.zip",
    f"abfs://c:{SECRET}@acc.dfs.core.windows.net/x",
    f"ray://user:{SECRET}@head:10001",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_with_credentials_are_refused(address):
    with pytest.raises(UserError, match="holds credentials") as caught:
        storage.filesystem(address, "data")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ADDRESSES[::3])
@pytest.mark.parametrize(
    "place",
    [
        ("run_dir",), ("model", "architecture"), ("model", "class_names"), ("datasets", 0, "path"),
        ("experts", 1, "checkpoint"), ("fit",), ("compute", "address"), ("compute", "cache"),
        ("coefficient", "reference"), ("coefficient", "calibration"), ("merge", "base"),
        ("unknown",), ("experts", 0, "temperature"),
    ],
)  # fmt: skip
def test_no_address_of_a_job_has_credentials(tmp_path, address, place):
    job = yaml.safe_load(yaml.safe_dump(JOB))
    at = job
    for key in place[:-1]:
        at = at.setdefault(key, {}) if isinstance(key, str) else at[key]
    at[place[-1]] = {"from": address, "dataset": "s"} if place == ("fit",) else address
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    with pytest.raises(UserError, match="holds credentials") as caught:
        load_job(str(path))
    assert SECRET not in str(caught.value)
    assert str(place[0]) in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        f"storage_options.s3.secret={SECRET}",
        f"storage_options.s3=[{SECRET}]",
        f"storage_options={SECRET}",
        f"storage_options.s3.key={SECRET}: {{",
        f"run_dir.x=https://h/?sig={SECRET}",
        f"https://u:{SECRET}@h",
    ],
)
def test_a_wrong_override_does_not_tell_its_secret(tmp_path, override):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(JOB))
    with pytest.raises(UserError) as caught:
        load_job(str(path), [override])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text", [f"a: b\n secret: {SECRET}: x\n", f"secret: *{SECRET}\n", f"a: {{secret: !{SECRET} x}}"]
)
def test_yaml_that_is_wrong_is_not_quoted(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"no valid YAML: .* in line \d, column \d") as caught:
        load_job(str(path))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/a@b/c=1/x.tar", "data/x?.tar", "s3://bucket/x?.tar", "runs/a=b&sig=c",
        "abfs://container@acc.dfs.core.windows.net/x", "https://h/x.tar?versionId=abc",
        "runs/fit.json#set", "s3://bucket/run/fit.json#set", "memory://x/label=3/part?[0-9].tar",
        "/data/label=3/x.tar", "zip://a.tar::s3://bucket/x.zip",
    ],
)  # fmt: skip
def test_plain_addresses_pass(address):
    check_address(address, "address")


def test_options_go_over_those_of_the_environment_and_leave_the_rest(monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "k"})
    monkeypatch.setitem(storage._FOUND, "s3", {"key": "k", "endpoint_url": "http://a"})
    storage.configure({"s3": {"endpoint_url": "http://b"}})
    storage.configure({"s3": {"endpoint_url": "http://b"}})
    assert fsspec.config.conf["s3"] == {"key": "k", "endpoint_url": "http://b"}
