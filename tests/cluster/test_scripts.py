"""The scripts of cluster/slurm, as far as it can be told without Slurm, and every command there is.

`test_slurm.py` runs the scripts.
"""

import re
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer

from dawin_ray import cli

HERE = Path(__file__).parents[2] / "cluster"
SCRIPTS = sorted((HERE / "slurm").glob("*.sbatch"))
PROGRAMS = [HERE / "Dockerfile", HERE / "aws.yaml", *SCRIPTS]

# `sbatch --help` of Slurm 22.05, without those that only show something.
OPTIONS = """
    account array bb bbf begin chdir cluster-constraint clusters comment constraint container
    contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
    dependency distribution error exclude exclusive export export-file extra-node-info get-user-env
    gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold
    ignore-pbs input job-name licenses mail-type mail-user mcs-label mem mem-per-cpu mem-per-gpu
    mincpus network nice no-kill no-requeue nodefile nodelist nodes ntasks ntasks-per-core
    ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output overcommit oversubscribe
    partition power prefer priority profile propagate qos reboot requeue reservation signal
    sockets-per-node spread-job switches thread-spec threads-per-core time time-min tmp uid
    use-min-nodes wait wckey
"""
FORMS = {
    "time": r"\d+:\d\d:\d\d", "mem": r"\d+[KMGT]", "nodes": r"\d+", "cpus-per-task": r"\d+",
    "signal": r"B:TERM@\d+", "open-mode": "append|truncate", "requeue": "",
}  # fmt: skip


def faults(text: str) -> list[str]:
    """What is wrong with a batch script's directives and its syntax."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    found = [] if lines[0] == "#!/bin/bash" else ["no #!/bin/bash"]
    for number, line in enumerate(lines):
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            if number > end:
                found.append(f"{line}: behind the first command, where Slurm does not look")
            if name not in OPTIONS.split():
                found.append(f"{line}: no option of sbatch")
            elif not re.fullmatch(FORMS.get(name, ".+"), value):
                found.append(f"{line}: not of the form {FORMS.get(name)}")
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    return found + done.stderr.splitlines()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one(path):
    text = path.read_text()
    assert not faults(text)
    asked = re.findall(r"(?m)^#SBATCH --([\w-]+)", text)
    assert set(asked) >= {"requeue", "open-mode", "signal", "time", "output"}
    assert "set -euo pipefail" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("--requeue", "--requeu", "no option of sbatch"),
        ("--time=12:00:00", "--time=12h", "not of the form"),
        ("--open-mode=append", "--open-mode=apend", "not of the form"),
        ("#SBATCH --requeue\n", "true\n#SBATCH --requeue\n", "behind the first command"),
        ("\ndone\n", "\ndoen\n", "syntax error"),
    ],
)
def test_a_typo_in_a_script_is_found(path, right, wrong, fault):
    text = path.read_text()
    assert right in text
    assert fault in " ".join(faults(text.replace(right, wrong, 1)))


# Commands

OURS = typer.main.get_command(cli.app).commands


def commands(text: str, program: str, names: Iterable[str]) -> list[list[str]]:
    """Every use of a program's commands in a text: name and arguments, expansions as 1."""
    plain = re.sub(r"\\\n[# ]*", " ", text)
    plain = re.sub(r"\$(\(\([^)]*\)\)|\{[^}]*\}|\w+|@)", "1", plain)
    found = []
    for match in re.finditer(rf"(?<![\w./=:-]){program} ((?:{'|'.join(names)})\b.*)", plain):
        before, line = plain[match.start() - 1], match[1]
        if before in "'\"`":  # it is quoted as a whole
            line = line.partition(before)[0]
        found.append(shlex.split(re.split(r" (?:&|\||2?>|<<)", line)[0], comments=True))
    return found


def ours(text: str) -> list[list[str]]:
    return commands(text, "dawin-ray", OURS)


def starts(path: Path) -> list[list[str]]:
    """The options of each `ray start`."""
    text = path.read_text().replace("start_ray 1 --head", "ray start --head")
    text = text.replace("start_ray $((SLURM_NNODES - 1))", "ray start")
    found = commands(text, "ray", ["start"])
    return [[word for word in words if word.startswith("--")] for words in found]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_command_parses(path):
    """Those of manifests: test_kubernetes; those of texts: tests/unit/test_readme.py."""
    from ray.scripts.scripts import cli as ray  # here, or it would settle how other tests' begins

    found = ours(path.read_text())
    assert found
    for command, *arguments in found:
        OURS[command].make_context(command, arguments)  # raises for what is unknown
    for options in starts(path):
        ray.commands["start"].make_context("start", options)


def test_the_commands_are_found():
    """So that the test above holds something."""
    found = {path.name: [name for name, *_ in ours(path.read_text())] for path in PROGRAMS}
    assert found == {
        "Dockerfile": ["demo", "run"], "array.sbatch": ["run"], "aws.yaml": ["run"],
        "job.sbatch": ["run"],
    }  # fmt: skip
    assert [len(starts(path)) for path in PROGRAMS] == [0, 2, 0, 3]


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("aws.yaml", "dawin-ray run", "dawin-ray run --restrat"),
        ("Dockerfile", "dawin-ray demo", "dawin-ray demo --siute tasks"),
        ("slurm/job.sbatch", 'dawin-ray run "$@"', 'dawin-ray run --fail-on-drfit "$@"'),
        ("aws.yaml", "--disable-usage-stats", "--disable-usage-stat"),
        ("slurm/job.sbatch", "--include-dashboard", "--include-dashbord"),
    ],
)
def test_an_option_that_is_none_is_found(file, right, wrong, tmp_path):
    text = (HERE / file).read_text()
    assert right in text
    path = tmp_path / Path(file).name
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(Exception, match="No such option"):  # typer has its own click
        test_every_command_parses(path)
