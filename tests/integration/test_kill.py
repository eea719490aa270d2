"""Killed at any moment, a run goes on to the same outputs: nothing lost, nothing twice.

Every case runs `dawin-ray run` in a process of its own, which SIGKILLs itself at a call of one of
its own functions, or whose actor or node is taken away. Drivers are killed one after the other in
one run directory, so that what one leaves the next one has to take up.
"""

import json
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import DRIVER, KILLED, assert_equal_runs, job_file, rows

pytestmark = pytest.mark.slow

# Where the driver dies: the function and the number of its call. There are eight chunks in three
# shards.
POINTS = [
    ("first chunk of pass 1", "dawin_ray.runs.ledger:PassLedger.add", 1),
    # even where the actors were done before the driver died, three shards end in this pass
    ("middle of pass 1", "dawin_ray.runs.ledger:PassLedger.add", 3),
    ("a shard's mark of pass 1", "dawin_ray.runs.work:Work.mark", 1),
    ("tables of pass 1 planned", "dawin_ray.job.parts:plan_parts", 1),
    ("tables of pass 1 made", "dawin_ray.job.score:check_usable", 1),
    ("fit", "dawin_ray.job.fitting:fit", 1),
    ("mixture.json", "dawin_ray.runs.folder:RunFolder.write_json", 1),
    ("first chunk of pass 2", "dawin_ray.runs.ledger:PassLedger.add", 1),
    ("a shard's mark of pass 2", "dawin_ray.runs.work:Work.mark", 2),
    ("tables of predictions", "dawin_ray.job.score:predictions_parts", 1),
    ("summaries", "dawin_ray.job.score:summaries_of", 1),
    ("summaries merged", "dawin_ray.job.parts:read_summary", 1),
    ("manifest", "dawin_ray.job.score:manifest_of", 1),
    ("removal of work", "dawin_ray.runs.work:Work.folders", 1),
]


def chunk_files(run_dir: Path) -> dict[str, int]:
    return {
        str(path.relative_to(run_dir)): path.stat().st_mtime_ns
        for path in (run_dir / "work").rglob("*.parquet")
    }


def test_the_driver_is_killed_in_every_phase(small, datasets, tries, undisturbed, tmp_path):
    job, run_dir = job_file(small, tmp_path, datasets, engine="ray"), tmp_path / "run"
    kept: dict[str, int] = {}
    for where, target, call in POINTS:
        code, output = tries.run(DRIVER, target, call, job)
        assert code == KILLED, f"{where}: {output}"
        now = chunk_files(run_dir)
        if now:  # the last two points come when chunks are being removed
            again = {path for path, written in kept.items() if now.get(path) != written}
            assert not again, f"{where}: work was done again: {again}"
            print(f"{where}: {len(kept)} chunks kept, {len(now) - len(kept)} new")
            kept = now
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    assert "complete already" in output  # the last one died behind its manifest
    assert not (run_dir / "work").exists()
    assert_equal_runs(undisturbed, run_dir)
    print(f"{len(POINTS)} kills, {len(rows(run_dir))} predictions, {len(rows(run_dir, 'rejects'))}"
          " rejects, equal to the undisturbed run")  # fmt: skip


# A chunk is a part, so that there are several, whose summaries a task merges.
SMALL_PARTS = f"from dawin_ray.runs import planning; planning.PART_ROWS = 16\n{DRIVER}"

# Where a task dies that makes parts of two data sets: with the driver, as it is its process.
TASK_POINTS = [
    ("chunks counted", "dawin_ray.job.parts:count_chunks", 2),
    ("rejects of a part", "dawin_ray.runs.parts:Parts.write", 2),
    ("a part's record", "dawin_ray.runs.making:write_part_record", 1),
    ("the next part", "dawin_ray.runs.making:write_part_record", 2),
    ("predictions", "dawin_ray.runs.making:write_summary", 1),
    ("a summary", "dawin_ray.runs.making:write_part_record", 1),
    ("a merge of summaries", "dawin_ray.job.parts:merge_summaries", 1),
    ("a merged summary", "dawin_ray.runs.summing:write_summary", 2),
    ("the last summary", "dawin_ray.job.parts:read_summary", 2),
]


def test_a_task_that_makes_parts_is_killed(small, datasets, tries, tmp_path):
    whole = job_file(small, tmp_path / "whole", datasets)  # actors may sum in another order
    job, run_dir = job_file(small, tmp_path, datasets), tmp_path / "run"
    code, output = tries.run(SMALL_PARTS, "", 0, whole)
    assert code == 0, output
    for where, target, call in TASK_POINTS:
        code, output = tries.run(SMALL_PARTS, target, call, job)
        assert code == KILLED, f"{where}: {output}"
    code, output = tries.run(SMALL_PARTS, "", 0, job)
    assert code == 0, output
    assert len(list((run_dir / "predictions").rglob("*.parquet"))) == 8
    assert_equal_runs(tmp_path / "whole" / "run", run_dir)


@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_an_actor_is_killed(small, datasets, tries, undisturbed, tmp_path, kind):
    job, run_dir = job_file(small, tmp_path, datasets, engine="ray"), tmp_path / "run"
    process = tries.start(DRIVER, "", 0, job)
    killed, deadline = 0, time.monotonic() + 120
    while not killed and process.poll() is None and time.monotonic() < deadline:
        if list((run_dir / "work" / kind).rglob("*.parquet")):
            for candidate in tries.ours():
                try:
                    if any("RayWorker" in part for part in candidate.cmdline()):
                        candidate.kill()
                        killed += 1
                except psutil.Error:
                    continue
        time.sleep(0.01)
    output, _ = process.communicate(timeout=300)
    tries.end_orphans()
    assert process.returncode == 0, output
    assert killed, "the pass was over before its actor could be killed"
    assert_equal_runs(undisturbed, run_dir)


# Two nodes in one process tree; the second one goes while chunks of the given pass are committed.
LOSING_A_NODE = """
import os, sys
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
node = cluster.add_node(num_cpus=2)
os.environ["RAY_ADDRESS"] = cluster.address
pass_name, job = sys.argv[1:]
from dawin_ray.runs import ledger
add, adds = ledger.PassLedger.add, []
def losing(self, summary):
    add(self, summary)
    adds.append(self.kinds[-1] == pass_name)
    if sum(adds) == 2 and adds[-1]:
        from ray import nodes
        before = sum(node["Alive"] for node in nodes())
        cluster.remove_node(node, allow_graceful=False)
        print("LOST a node of", before, flush=True)
ledger.PassLedger.add = losing
from dawin_ray.cli import main
sys.argv = ["dawin-ray", "run", job]
main()
"""


@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_a_node_is_lost(small, datasets, tries, undisturbed, tmp_path, kind):
    code, output = tries.run(LOSING_A_NODE, kind, job_file(small, tmp_path, datasets, engine="ray"))
    assert code == 0, output
    assert "LOST a node of 2" in output
    assert_equal_runs(undisturbed, tmp_path / "run")


def test_a_second_run_on_one_directory_is_refused(small, datasets, tries, tmp_path):
    job = job_file(small, tmp_path, datasets, engine="ray")
    first = tries.start(DRIVER, "", 0, job)
    lock, deadline = tmp_path / "run" / ".lock", time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    second = tries.start(DRIVER, "", 0, job)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2, output
    assert "Another run writes to the run_dir" in output
    assert str(first.pid) in output
    output, _ = first.communicate(timeout=300)
    tries.end_orphans()
    assert first.returncode == 0, output


def test_a_restart_begins_anew(small, datasets, tries, tmp_path):
    job, run_dir = job_file(small, tmp_path, datasets[:1], engine="ray"), tmp_path / "run"
    code, output = tries.run(DRIVER, "dawin_ray.job.fitting:fit", 1, job)
    assert code == KILLED, output
    text = job.read_text().replace("temperature: 1.0", "temperature: 1.5")
    job.write_text(text)
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 2
    assert "job.experts.1.temperature: 1.0 there, 1.5 here" in output
    assert "--restart" in output
    restarting = DRIVER.replace('"run", job]', '"run", "--restart", job]')
    code, output = tries.run(restarting, "", 0, job)
    assert code == 0, output
    assert json.loads((run_dir / "manifest.json").read_text())["rows"]["tars"]["rejects"] == 1
