"""Listening to an S3 client asks nobody anything before the first request."""

import aiobotocore.session
import pytest
import s3fs

from dawin_ray.storage import filesystem, retries


def test_opening_an_address_makes_no_client(monkeypatch):
    async def refused(*args, **kwargs):
        pytest.fail("a client looks for credentials, and asks the network for them")

    monkeypatch.setattr(s3fs.S3FileSystem, "set_session", refused)
    s3fs.S3FileSystem.clear_instance_cache()
    fs, path = filesystem("s3://bucket/folder")
    assert path == "bucket/folder"
    session = fs.session
    assert isinstance(session, aiobotocore.session.AioSession)
    assert filesystem("s3://bucket/other")[0].session is session
    s3fs.S3FileSystem.clear_instance_cache()


def test_another_storage_is_left_alone(tmp_path):
    fs, _ = filesystem(str(tmp_path))
    retries.listen(fs)
    assert not hasattr(fs, "session")
