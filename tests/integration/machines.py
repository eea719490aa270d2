"""Machines on this one: each a node of a Ray cluster with disks, processes and a name of its own.

Linux's namespaces make them. /tmp (home is there), /dev/shm and this package are each machine's
own, and empty at first; the network is everybody's, so that all of them meet at 127.0.0.1. Whatever
runs in a machine ends with it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

import dawin_ray

TOOLS = ("setpriv", "unshare", "mount", "hostname")

# Ends with whoever starts it.
ALONE = (
    "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
    "--kill-child", "--mount-proc",
)  # fmt: skip

HOME = Path("/tmp/home")

STARTS, START_SECONDS = 4, 120.0

# Takes the machine's name, folders to hide, `--` and what runs in it. Without the package, or
# nothing would be shown of jobs that bring it with them.
ENTER = """
hostname "$1"; shift
while [ "$1" != -- ]; do [ ! -d "$1" ] || mount -t tmpfs none "$1"; shift; done
shift; mkdir -p "$HOME"; cd "$HOME"
if python -c "import dawin_ray.cli" 2> /dev/null; then echo "dawin_ray is here"; exit 9; fi
exec "$@"
"""

# The first process of a machine: it buries the others, and ends with the one that it starts.
FIRST = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
while True:
    process, status = os.wait()
    if process == child.pid:
        sys.exit(os.waitstatus_to_exitcode(status))
"""

WHERE = "import dawin_ray; print(dawin_ray.__path__[0])"

RAY = (sys.executable, "-m", "ray.scripts.scripts")


def why_not() -> str:
    """Why there can be no such machine here; empty where there can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"there is no {', no '.join(missing)}"
    tried = subprocess.run(
        [*ALONE, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, text=True
    )
    return f"no namespaces (they need root): {tried.stderr.strip()}" if tried.returncode else ""


class Machines:
    """A cluster with a head that has no CPUs, and workers of one CPU each."""

    def __init__(self, folder: Path, env: Mapping[str, str]):
        """Their output is in `folder`; what runs in them has `env` around it."""
        self.folder, self.token = folder, uuid.uuid4().hex + uuid.uuid4().hex
        without = ("PYTHONPATH", "RAY_ADDRESS", "XDG_CACHE_HOME")
        self.outside = {k: v for k, v in os.environ.items() if k not in without} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # else Ray may end a driver where others need it
        }
        self.inside = self.outside | {"HOME": str(HOME), **env}
        self.gcs, dashboard = free_ports(2)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.head_options = ("--head", f"--port={self.gcs}", f"--dashboard-port={dashboard}")
        self.running: dict[str, subprocess.Popen] = {}
        self.open = ExitStack()

    def start(self, *workers: str) -> None:
        """Start a head and workers of these names, one after the other."""
        options = {"head": (*self.head_options, "--num-cpus=0")}
        options |= dict.fromkeys(workers, (f"--address=127.0.0.1:{self.gcs}", "--num-cpus=1"))
        for name, of_name in options.items():
            for _ in range(STARTS):
                self._start(name, *of_name)
                if self._has_joined(name):
                    break
            else:
                raise AssertionError(f"{name}: {(self.folder / f'{name}.log').read_text()}")

    def _has_joined(self, name: str) -> bool:
        """Once it has, or its Ray has given up, as it does where a start takes 30 s."""
        deadline = time.monotonic() + START_SECONDS
        while name not in self.names():
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                self.running[name].kill()
                self.running[name].wait()
                return False
            time.sleep(0.5)
        return True

    def _start(self, name: str, *options: str) -> None:
        listen, grpc, metrics, client = free_ports(4)
        command = [
            *RAY, "start", *options, "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0",
            f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}",
            f"--metrics-export-port={metrics}", "--object-store-memory=100000000",
            # drawn anew, or the nodes would all begin with the same
            "--min-worker-port=0", "--max-worker-port=0",
        ]  # fmt: skip
        if "--head" in options:
            command.append(f"--ray-client-server-port={client}")
        log = self.open.enter_context((self.folder / f"{name}.log").open("a"))
        self.running[name] = subprocess.Popen(
            [*ALONE, "sh", "-ec", ENTER, "sh", name, *self._hidden(), "--",
             sys.executable, "-c", FIRST, *command],
            env=self.inside, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def _hidden(self) -> list[str]:
        """Folders that a machine has for itself, or not at all."""
        installed = subprocess.run(
            [sys.executable, "-c", WHERE], env=self.outside, cwd="/", capture_output=True, text=True
        )
        packages = {installed.stdout.strip(), *dawin_ray.__path__} - {""}
        return ["/tmp", "/dev/shm", *sorted(packages)]

    def names(self) -> set[str]:
        """Of the machines that have joined, as the dashboard knows them."""
        request = urllib.request.Request(
            f"{self.address}/nodes?view=summary", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                nodes = json.load(answer)["data"]["summary"]
        except (OSError, ValueError):  # it is not there yet
            return set()
        return {node["hostname"] for node in nodes if node["raylet"].get("state") == "ALIVE"}

    def disk(self, name: str, folder: Path) -> Path:
        """A folder of a machine, as this process sees it."""
        unshare = self.running[name].pid
        first = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
        return Path(f"/proc/{first}/root") / folder.relative_to("/")

    def driver(self) -> psutil.Process:
        """The one process that `python -m dawin_ray` is in all of them."""
        (found,) = [
            process
            for machine in self.running.values()
            for process in psutil.Process(machine.pid).children(recursive=True)
            if process.cmdline()[1:3] == ["-m", "dawin_ray"]
        ]
        return found

    def job(self, command: str, *arguments: str) -> subprocess.Popen:
        """`ray job COMMAND`, from outside, where the package and the job's files are."""
        return subprocess.Popen(
            [*RAY, "job", command, f"--address={self.address}", *arguments], env=self.outside,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def stop(self) -> None:
        """End all machines, and with each what runs in it."""
        for process in self.running.values():
            process.kill()
            process.wait(timeout=60)
        self.open.close()


def free_ports(count: int) -> Sequence[int]:
    """Ports of 127.0.0.1 that nobody listens at now."""
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
