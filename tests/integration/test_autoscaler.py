"""A job that asks for more than there is, on a cluster that grows: Ray's autoscaler, fake nodes.

The nodes are processes of this machine; what decides about them is the autoscaler of real clusters.
"""

import json
import re
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from dawin_ray.engine.ray_address import check_answers
from dawin_ray.errors import UserError
from tests.integration.processes import DRIVER, Tries, assert_equal_runs, job_file

pytestmark = pytest.mark.slow

# Of the head, among Ray's fake nodes.
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
MEMORY = 100 << 20  # of a node's object store, in bytes

# Short, as the paths of Ray's sockets end after 107 bytes.
FOLDER = {"prefix": "ray-", "dir": "/tmp", "ignore_cleanup_errors": True}

# `ray start` as a process that ends with its group; its environment is not for the drivers.
HEAD = """
import os, sys
os.environ |= dict(word.split("=", 1) for word in sys.argv[1].split())
sys.argv = ["ray", "start", *sys.argv[2:]]
from ray.scripts.scripts import main
main()
"""
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "RAY_USAGE_STATS_ENABLED": "0",
}  # fmt: skip

# Nodes of one CPU, up to three of them, and one with a GPU, which is only said to have it.
TYPES = {
    HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "cpu": {
        "resources": {"CPU": 1, "object_store_memory": MEMORY},
        "node_config": {}, "min_workers": 0, "max_workers": 3,
    },
    "gpu": {
        "resources": {"CPU": 1, "GPU": 1, "object_store_memory": MEMORY},
        "node_config": {}, "min_workers": 0, "max_workers": 1,
    },
}  # fmt: skip


def configuration(address: str) -> dict:
    """Of the autoscaler. Ray's own type for fake nodes wants a file that its wheel lacks."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True, "launch_multiple": True, "disable_node_updaters": True,
        "disable_launch_config_check": True, "head_node_id": HEAD_ID, "gcs_address": address,
    }  # fmt: skip
    lists = (
        "initialization_commands", "setup_commands", "head_setup_commands", "rsync_exclude",
        "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
        "cluster_synced_files", "rsync_filter",
    )  # fmt: skip
    return {name: [] for name in lists} | {
        "cluster_name": "fake", "provider": provider, "max_workers": 4, "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5, "available_node_types": TYPES, "head_node_type": HEAD_TYPE,
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
    }  # fmt: skip


# On one core, as each of the nodes has: the last bits of a forward go by its threads.
ON_ONE_CORE = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}){DRIVER}"


@pytest.fixture(scope="module")
def plain(small, datasets, tries, tmp_path_factory) -> Path:
    """The run of a Ray of its own."""
    folder = tmp_path_factory.mktemp("plain")
    code, output = tries.run(ON_ONE_CORE, "", 0, job_file(small, folder, datasets, engine="ray"))
    assert code == 0, output
    assert "1 model actor on cpu" in output
    return folder / "run"


@pytest.fixture(scope="module")
def growing():
    """The address of a head without CPUs, to which an autoscaler adds nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = Tries()
    with (
        pytest.MonkeyPatch.context() as patch,
        # short, as the paths of Ray's sockets end after 107 bytes
        tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as folder,
    ):
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # all of it on loopback
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # the machine is shared
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        config = Path(folder) / "autoscaler.json"
        config.write_text(json.dumps(configuration(address)))
        words = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        head = processes.start(
            HEAD, words, "--head", "--block", "--num-cpus=0", "--node-ip-address=127.0.0.1",
            f"--port={address.rpartition(':')[2]}", f"--object-store-memory={MEMORY}",
            "--include-dashboard=false", f"--autoscaling-config={config}", f"--temp-dir={folder}",
        )  # fmt: skip
        try:
            wait_for(address, head)
            yield address
        finally:
            processes.end_orphans()
            head.communicate(timeout=60)


def wait_for(address: str, head: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            check_answers(address)
        except UserError:
            assert head.poll() is None, head.stdout.read()
            assert time.monotonic() < deadline
        else:
            return


def run(small, tries, folder: Path, datasets: list[dict], **compute) -> tuple[int, str]:
    compute = {"engine": "ray", "batch_size": 8, "chunk_size": 16} | compute
    return tries.run(DRIVER, "", 0, job_file(small, folder, datasets, compute=compute))


WAITED = re.compile(r"waiting for the cluster: (.+); (\d+) of (\d+) s")


def test_a_job_gets_the_nodes_that_it_waits_for(small, datasets, plain, growing, tries, tmp_path):
    code, output = run(small, tries, tmp_path, datasets, address=growing, actors=3, wait_for="10m")
    print(output)
    assert code == 0, output
    (lack, waited, bound), *_ = WAITED.findall(output)
    assert (int(waited), int(bound)) == (0, 600)
    assert lack == "the job asks for 3 model actors, half a CPU each, but no node has a CPU"
    assert "3 model actors on cpu" in output
    assert_equal_runs(plain, tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))  # each node's probe is gone


LACK = "the job asks for 2 GPU actors, one GPU each, but the cluster has 0 GPUs"


def test_what_never_comes_is_refused_with_what_is_missing(
    small, datasets, growing, tries, tmp_path
):
    """The autoscaler is asked for two GPUs, may have one, and then starts none."""
    begin = time.monotonic()
    code, output = run(
        small, tries, tmp_path, datasets, address=growing, actors=2, device="cuda", wait_for="1m"
    )
    print(output, f"{time.monotonic() - begin:.0f} s")
    assert code == 2, output
    waits = WAITED.findall(output)
    assert {lack for lack, _, _ in waits} == {LACK}
    assert [int(waited) // 10 for _, waited, _ in waits][:4] == [0, 1, 2, 3]  # a line each 10 s
    assert re.search(
        rf"Error: T{LACK[1:]}, after 6\d s of compute\.wait_for\. Lower compute\.actors", output
    )
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()
