"""A pool of actors follows its cluster: nodes that join and go change who scores, and no row."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CLASSES, make_images, write_tar
from tests.integration.processes import DRIVER, assert_equal_runs, job_file

pytestmark = pytest.mark.slow

IMAGES, SHARDS = 480, 8
RUN_SECONDS = 540.0
BOUNDS = {"min": 1, "max": 3}

# Actors that sleep at each chunk and note their node, as a class of the script, which Ray sends
# whole; the first node's sleep longer. Two nodes join while pass 1 is at work; of those that score
# in pass 2 one goes. The driver notes when it finds an actor's process ended.
ELASTIC = """
import json, os, sys, time
from pathlib import Path
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
import psutil
from ray.cluster_utils import Cluster
job, notes = sys.argv[1], Path(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
os.environ["RAY_ADDRESS"] = cluster.address
head = cluster.head_node.node_id
from dawin_ray.engine import ray_stream
from dawin_ray.runs import ledger

class Noting(ray_stream.RayWorker):
    def _forward(self, chunk, read):
        import ray
        if chunk.end is None:
            node = ray.get_runtime_context().get_node_id()
            time.sleep(2.0 if node == head else 0.6)
            note = {"node": node, "pass": self.stage.name, "time": time.time(),
                    "rows": len(chunk.sample_ids), "process": os.getpid()}
            with open(notes / f"{os.getpid()}.jsonl", "a") as file:
                print(json.dumps(note), file=file)
        return super()._forward(chunk, read)

original = ray_stream.stream
ray_stream.stream = lambda stage, tasks, wiring, actor: original(stage, tasks, wiring, Noting)
add, joined, adds, lost, ended = ledger.PassLedger.add, [], [], [], set()

def moving(self, summary):
    add(self, summary)
    adds.append(summary)
    for process in {int(path.stem) for path in notes.iterdir()} - ended:
        if not psutil.pid_exists(process):
            ended.add(process)
            print("ENDED", process, self.kinds[-1], summary.chunk, flush=True)
    if self.kinds[-1] == "experts":
        if len(adds) == 6:
            joined.extend(cluster.add_node(num_cpus=2) for _ in range(2))
            print("JOINED", time.time(), *(node.node_id for node in joined), flush=True)
    elif not lost:
        seen = [json.loads(line) for path in notes.iterdir() for line in open(path)]
        seen = [note["node"] for note in seen if note["pass"] != "experts"]
        if all(seen.count(node.node_id) >= 2 for node in joined):
            lost.append(joined[-1])
            cluster.remove_node(lost[0], allow_graceful=False)
            print("LOST", time.time(), lost[0].node_id, flush=True)

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


def told(output: str, word: str) -> list[list[str]]:
    """What the script says behind a word, line by line."""
    return [line.split()[1:] for line in output.splitlines() if line.startswith(word)]


def print_rates(when: str, notes: pd.DataFrame) -> None:
    for node, of_node in notes.groupby("node"):
        seconds = notes.time.max() - notes.time.min()
        print(f"{when}, node {node[:6]}: {of_node.rows.sum()} images, "
              f"{of_node.rows.sum() / seconds:.1f} images/s")  # fmt: skip


def test_two_nodes_join_one_is_lost_and_idle_actors_end(small, many, by_one, tries, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    code, output = tries.run(
        ELASTIC, elastic_job(small, tmp_path, many, BOUNDS), notes, seconds=RUN_SECONDS
    )
    assert code == 0, output
    assert "1 model actor (1 to 3 as nodes come and go)" in output
    assert_equal_runs(by_one, tmp_path / "run")

    scored = pd.DataFrame(
        json.loads(line) for path in notes.iterdir() for line in path.read_text().splitlines()
    )
    ((joined_at, *joined),) = told(output, "JOINED")
    ((lost_at, lost),) = told(output, "LOST")
    first, second = scored[scored["pass"] == "experts"], scored[scored["pass"] != "experts"]
    before, after = first[first.time < float(joined_at)], first[first.time >= float(joined_at)]
    (head,) = before.node.unique()
    together = after[after.time >= after.groupby("node").time.min().max()]
    print_rates("before", before)
    print_rates("all three", together)
    print_rates("pass 2 until one is lost", second[second.time < float(lost_at)])
    print_rates("pass 2 without it", second[second.time >= float(lost_at)])

    # those that join have most of the work, as they are faster, and not one of them alone
    assert set(together.node) == {head, *joined}
    shares = together.groupby("node").rows.sum() / together.rows.sum()
    assert all(shares[node] > shares[head] for node in joined), shares

    # the pool shrinks before the last chunk of pass 1 is done, while all nodes are there
    shrunk = {int(process) for process, kind, _ in told(output, "ENDED") if kind == "experts"}
    assert shrunk <= set(first.process)
    assert shrunk, output
    print(f"{len(shrunk)} of 3 actors ended before the last chunk of pass 1")

    # pass 2 is on those that joined, and goes on without the one that is lost; the first node's
    # actor may begin late, and a process may outlive its node for a bit
    assert {*joined} <= set(second[second.time < float(lost_at)].node) <= {head, *joined}
    remaining = set(second[second.time >= float(lost_at)].node) - {lost}
    assert remaining
    assert remaining <= {head, *joined}
    assert second.node.iloc[second.time.argmax()] != lost
