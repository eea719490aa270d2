"""A Slurm of one node that belongs to a test: its daemons, files and keys lie in one folder."""

from __future__ import annotations

import math
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}

# cred_expire: how long a job that is requeued has to wait, 120 s by default
CONFIG = """
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
FirstJobId={first}
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName={host} NodeAddr={address} CPUs=2 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why it cannot run here, or nothing."""
    paths = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=paths) is None]
    if absent:
        return f"no {', '.join(absent)}: tests/cluster/slurm.sh installs them"
    return "" if os.geteuid() == 0 else "the daemons run as root"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Slurm:
    """One node of two cores, on this machine."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        """`folder` has a short path, as sockets have; jobs get `environment`."""
        self.folder = folder
        self.environment = environment | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": environment["PATH"] + os.pathsep + "/usr/sbin",
        }
        self.first = random.randrange(1_000, 60_000, 100)  # its jobs share /tmp with other Slurms'
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts the daemons, and waits until the node takes jobs."""
        host = socket.gethostname().partition(".")[0]
        address = socket.gethostbyname(host)
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(
                folder=self.folder, host=host, address=address, ctld=_free_port(),
                slurmd=_free_port(), first=self.first,
            )
        )  # fmt: skip
        version = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/{version}\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}",
            *(f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")),
            f"--socket={self.folder}/munge.socket",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.socket").exists(), "munge")
        self._daemon("slurmctld", "-i", "-D")
        self._daemon("slurmd", "-N", host, "-D")
        self._until(lambda: self.ask("sinfo", "-h", "-o", "%T").startswith("idle"), "the node")

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        deadline = time.monotonic() + 30
        while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
            self.ask("scancel", "--user=root")
            time.sleep(1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def submit(self, *arguments: str, cwd: Path) -> str:
        """The id of a new job."""
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments], cwd=cwd, env=self.environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of it."""
        words = self.ask("scontrol", "show", "job", "-o", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def ended(self, job: str, seconds: float = 300) -> dict[str, str]:
        """The same, once the job has ended."""
        self._until(lambda: self.state(job).get("JobState") in ENDED, f"the end of {job}", seconds)
        return self.state(job)

    def requeue(self, job: str) -> None:
        """As an administrator, a failed node or a preemption would."""
        subprocess.run(["scontrol", "requeue", job], env=self.environment, check=True)

    def limit(self, job: str, seconds: float) -> None:
        """Lets a job end in so many seconds, or up to a minute later: limits are whole minutes."""
        days, _, clock = self.state(job)["RunTime"].rpartition("-")
        hours, minutes, rest = map(int, clock.split(":"))
        ran = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest
        limit = math.ceil((ran + seconds) / 60)
        subprocess.run(
            ["scontrol", "update", f"JobId={job}", f"TimeLimit={limit}"],
            env=self.environment, check=True,
        )  # fmt: skip

    def _daemon(self, *command: str) -> None:
        with open(self.folder / "daemons.log", "ab") as log:
            self.daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            )

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout

    def _until(self, holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            dead = [daemon.args for daemon in self.daemons if daemon.poll() is not None]
            assert not dead, f"{dead}: {(self.folder / 'daemons.log').read_text()}"
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
            time.sleep(0.3)
