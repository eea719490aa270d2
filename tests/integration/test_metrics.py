"""A real Prometheus scrapes a run: counters are the report's rows, and the dashboard has data."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_images, write_tar
from tests.integration.processes import Tries, job_file
from tests.integration.test_drift import darkened
from tests.unit.test_metrics import ALERTS, queries

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="there is no prometheus (Debian's package)"),
]

SMALL, LARGE = 150, 240

SIDE = 3000  # of large images, which take their time to be decoded

# A cluster of one node on loopback, in a folder of its own, until its standard input ends.
CLUSTER = """
import os, sys
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 2, "temp_dir": sys.argv[1], "include_dashboard": True, "dashboard_port": 0})
print("ADDRESS", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

RUN = """
import os, sys
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from dawin_ray.cli import main
main()
"""

CONFIG = """
global: {{scrape_interval: 2s, evaluation_interval: 2s}}
scrape_configs:
  - job_name: ray
    file_sd_configs: [{{files: [{targets}], refresh_interval: 1s}}]
rule_files: [{alerts}]
"""


class Prometheus:
    """Of whom anything that Grafana would ask may be asked."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, what: str, **query: str) -> dict:
        address = f"{self.address}/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values; what is no number is left out."""
        found = self.ask("query", query=expression)["result"]
        values = [(one["metric"], float(one["value"][1])) for one in found]
        return [(labels, value) for labels, value in values if value == value]

    def firing(self) -> set[str]:
        found = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    def is_ready(self) -> bool:
        try:
            return bool(self.query("up"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture
def tries() -> Iterator[Tries]:
    made = Tries()
    yield made
    made.end_orphans()


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name: sockets of Ray lie in it."""
    path = Path(tempfile.mkdtemp(prefix="dm-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def address(tries, folder, monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-this-test-alone-" + os.urandom(16).hex())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    name, _, value = tries.mark.partition("=")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(folder / "ray")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {name: value},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("ADDRESS"):
            yield line.split()[1]
            break
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=60)


@pytest.fixture
def prometheus(folder, address) -> Iterator[Prometheus]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "prometheus.yaml"
    targets = folder / "ray" / "prom_metrics_service_discovery.json"
    config.write_text(CONFIG.format(targets=targets, alerts=ALERTS))
    process = subprocess.Popen(
        [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=(folder / "prometheus.log").open("w"),
    )  # fmt: skip
    found, deadline = Prometheus(port), time.monotonic() + 90
    while not found.is_ready() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found.is_ready(), (folder / "prometheus.log").read_text()
    yield found
    process.terminate()
    process.wait(timeout=30)


def large_image() -> bytes:
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(make_images(1, seed=7)[0])).resize((SIDE, SIDE))
    image.save(buffer, format="JPEG")
    return buffer.getvalue()


def follow(tries, prometheus, job: Path, pending: dict[str, str]) -> None:
    """A run to its end, while all that the dashboard asks is asked; what has data is taken out."""
    script = RUN.replace("main()", f"sys.argv = ['dawin-ray', 'run', {str(job)!r}]\nmain()")
    process = tries.start(script)
    while process.poll() is None:
        _ask(prometheus, pending)
        time.sleep(1)
    output = process.stdout.read()
    assert process.returncode == 0, output
    _ask(prometheus, pending)


def _ask(prometheus, pending: dict[str, str]) -> None:
    for name, expression in list(pending.items()):
        if prometheus.query(expression):
            del pending[name]


def test_a_prometheus_that_scrapes_a_run_has_all_of_it(small, tries, folder, address, prometheus):
    images = make_images(SMALL, seed=1)
    write_tar(folder / "fit" / "a.tar", [*images, b"no image"], None)
    for i in range(4):
        write_tar(folder / "large" / f"{i}.tar", [large_image()] * (LARGE // 4), None)
    data = [{"name": name, "path": str(folder / name)} for name in ("fit", "large")]
    compute = {"address": address, "cache": "off", "batch_size": 8, "chunk_size": 16}
    compute["engine"] = "ray"
    run_dir = folder / "fitted"
    job = job_file(small, folder / "one", data, run_dir, compute=compute)
    pending = queries()
    follow(tries, prometheus, job, pending)

    report = json.loads((run_dir / "report.json").read_text())
    rows = {("experts", one["dataset"]): one["rows"] for one in report["datasets"]}
    rows |= {("merged", name): count for (_, name), count in rows.items()}
    assert sorted(rows.values()) == [SMALL, SMALL, LARGE, LARGE]
    deadline, shown = time.monotonic() + 40, {}
    while shown != rows and time.monotonic() < deadline:
        found = prometheus.query('ray_dawin_ray_rows_total{run="fitted"}')
        shown = {(labels["pass"], labels["dataset"]): value for labels, value in found}
        time.sleep(1)
    assert shown == rows
    ((labels, rejects),) = prometheus.query('ray_dawin_ray_rejects_total{pass="experts"}')
    assert (labels["dataset"], rejects) == ("fit", 1)
    actors = prometheus.query("sum by (pass) (ray_dawin_ray_actor_rows_total)")
    assert {labels["pass"]: value for labels, value in actors} == dict.fromkeys(
        ("experts", "merged"), SMALL + LARGE
    )
    assert {name for name in pending if not name.startswith("Drift")} == set()

    write_tar(folder / "new" / "a.tar", darkened(make_images(SMALL, seed=3)), None)
    job = job_file(
        small, folder / "two", [{"name": "new", "path": str(folder / "new")}], folder / "drifted",
        compute=compute, fit={"from": str(run_dir), "dataset": "fit"},
    )  # fmt: skip
    follow(tries, prometheus, job, pending)
    assert pending == {}
    assert "DawinRayDrift" in prometheus.firing()
    assert "DawinRayNoProgress" not in prometheus.firing()
