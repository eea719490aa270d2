"""A pool of actors follows its cluster: nodes that join and go change who scores, and no row."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CLASSES, make_images, write_tar
from tests.integration.processes import DRIVER, assert_equal_runs, job_file

pytestmark = pytest.mark.slow

IMAGES, SHARDS = 640, 8
BOUNDS = {"min": 1, "max": 3}

# Actors that sleep at each chunk and note their node, as a class of the script, which Ray sends
# whole. Nodes join while pass 1 is at work; of those that score in pass 2 one goes.
ELASTIC = """
import json, os, sys, time
from pathlib import Path
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray.cluster_utils import Cluster
job, notes, joining = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
os.environ["RAY_ADDRESS"] = cluster.address
from dawin_ray.engine import ray_stream
from dawin_ray.runs import ledger

class Noting(ray_stream.RayWorker):
    def _forward(self, chunk, read):
        import ray
        if chunk.end is None:
            time.sleep(0.8)
            note = {"node": ray.get_runtime_context().get_node_id(), "pass": self.stage.name,
                    "time": time.time(), "rows": len(chunk.sample_ids)}
            with open(notes / f"{os.getpid()}.jsonl", "a") as file:
                print(json.dumps(note), file=file)
        return super()._forward(chunk, read)

original = ray_stream.stream
ray_stream.stream = lambda stage, tasks, wiring, actor: original(stage, tasks, wiring, Noting)
add, nodes, adds, lost = ledger.PassLedger.add, [], [], []

def moving(self, summary):
    add(self, summary)
    if self.kinds[-1] == "experts":
        adds.append(summary)
        if len(adds) == 8:
            nodes.extend(cluster.add_node(num_cpus=2) for _ in range(joining))
            print("JOINED", time.time(), flush=True)
    elif not lost:
        seen = [json.loads(line) for path in notes.iterdir() for line in open(path)]
        seen = [note["node"] for note in seen if note["pass"] != "experts"]
        for node in nodes:
            if seen.count(node.node_id) >= 2:
                lost.append(node)
                cluster.remove_node(node, allow_graceful=False)
                print("LOST", node.node_id, time.time(), flush=True)
                break

ledger.PassLedger.add = moving
from dawin_ray.cli import main
sys.argv = ["dawin-ray", "run", job]
main()
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("many")
    images, each = make_images(IMAGES), IMAGES // SHARDS
    for shard in range(SHARDS):
        begin = shard * each
        labels = [i % CLASSES for i in range(begin, begin + each)]
        write_tar(root / f"{shard}.tar", images[begin : begin + each], labels, begin)
    return [{"name": "many", "path": str(root)}]


@pytest.fixture(scope="module")
def by_one(small, many, tries, tmp_path_factory) -> Path:
    """The run of one actor."""
    folder = tmp_path_factory.mktemp("one")
    code, output = tries.run(DRIVER, "", 0, elastic_job(small, folder, many, 1))
    assert code == 0, output
    return folder / "run"


def elastic_job(small, folder: Path, datasets: list[dict], actors: object) -> Path:
    compute = {"engine": "ray", "batch_size": 8, "chunk_size": 8, "actors": actors}
    return job_file(small, folder, datasets, compute=compute)


@pytest.mark.parametrize("joining", [1, 2])
def test_nodes_join_and_one_is_lost(small, many, by_one, tries, tmp_path, joining):
    notes = tmp_path / "notes"
    notes.mkdir()
    job = elastic_job(small, tmp_path, many, BOUNDS)
    code, output = tries.run(ELASTIC, job, notes, joining)
    assert code == 0, output
    assert "1 model actor (1 to 3 as nodes come and go)" in output
    assert "LOST" in output
    assert_equal_runs(by_one, tmp_path / "run")
    scored = pd.DataFrame(
        json.loads(line) for path in notes.iterdir() for line in path.read_text().splitlines()
    )
    joined = float(next(line for line in output.splitlines() if "JOINED" in line).split()[1])
    before = scored[scored.time < joined]
    assert before.node.nunique() == 1
    for name, rows in scored.groupby("pass"):
        assert rows.node.nunique() == 1 + joining
        for node, of_node in rows.groupby("node"):
            seconds = of_node.time.max() - of_node.time.min()
            rate = of_node.rows.sum() / seconds if seconds else float("nan")
            print(f"{name}, node {node[:6]}: {of_node.rows.sum()} images, {rate:.1f} images/s, "
                  f"from {of_node.time.min() - scored.time.min():.1f} s on")  # fmt: skip
