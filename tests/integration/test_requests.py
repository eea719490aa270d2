"""What a run asks of a storage: a few requests a chunk, and none of these by the driver itself."""

from collections import Counter

import fsspec
import pytest

from dawin_ray.config import make_job
from dawin_ray.job import prepare, score
from tests.conftest import make_images, write_tar
from tests.integration.requests import CHUNK, Requests

MOST = 6  # requests a chunk, over the whole job: write, and read for the part, in each pass


@pytest.fixture
def score_tars(small, tmp_path):
    """Scores so many tars of so many images; the requests for the run directory."""

    def scoring(tars: int, images: int) -> Requests:
        root, address = tmp_path / f"{tars}", f"memory://{tmp_path.name}/{tars}"
        for tar in range(tars):
            write_tar(root / f"{tar}.tar", make_images(images, seed=tar), None)
        job = small.job(address, [{"name": "set", "path": str(root)}], compute={"chunk_size": 4})
        with pytest.MonkeyPatch.context() as patch:
            prepared = prepare(make_job(job, ""), print)
            requests = Requests(patch)
            score(prepared)
        return requests

    yield scoring
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_chunk_costs_a_few_requests_and_the_driver_makes_none_of_them(score_tars):
    requests = score_tars(2, 16)
    of_chunks = [(kind, *rest) for kind, path, *rest in requests if CHUNK.search(path)]
    counts = Counter(kind for kind, by_worker in of_chunks if kind != "delete")
    print(dict(counts), "for 8 chunks")
    assert counts.total() <= MOST * 8
    assert counts["write"] == 2 * 8
    assert counts["read"] == 3 * 8
    assert counts.keys() == {"write", "read"}  # nobody looks for one or at its size first
    assert all(by_worker for kind, by_worker in of_chunks if kind != "delete")


def test_nothing_is_listed_shard_by_shard(score_tars):
    few, many = (Counter(kind for kind, *_ in score_tars(tars, 4))["list"] for tars in (1, 5))
    assert few == many
