"""Requests of a whole job, counted between it and an S3 server by the benchmark's proxy."""

import logging

import pytest

from dawin_ray.bench.scale_run import Store, measured
from dawin_ray.bench.scale_stubs import Shape

MOST = 6  # requests of a chunk in the whole job

FEW, MANY = Shape(shards=2, chunks=4, rows=8), Shape(shards=2, chunks=24, rows=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://127.0.0.1:{1}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3", endpoint_url=endpoint).mkdir("scale")
        yield Store(address="s3://scale/runs", endpoint=endpoint, latency=0.0)
    server.stop()


def asked(found, who: str) -> int:
    return sum(cost[f"{who}_requests"] for cost in found.phases.values())


@pytest.mark.slow
def test_a_chunk_takes_few_requests_and_none_of_the_driver(store):
    few, many = (measured(shape, store, processes=1) for shape in (FEW, MANY))
    more = MANY.all_chunks - FEW.all_chunks
    of_tasks, of_driver = (
        (asked(many, who) - asked(few, who)) / more for who in ("tasks", "driver")
    )
    print(f"{of_tasks:.2f} requests a chunk of tasks, {of_driver:.2f} of the driver")
    assert of_tasks + of_driver <= MOST
    assert of_driver < 0.2  # what it deletes at the end, many at once, and its lease's renewals
