"""cluster/Dockerfile and the versions that it installs."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE, CONSTRAINTS = ROOT / "cluster" / "Dockerfile", ROOT / "cluster" / "constraints.txt"
KNOWN = {"ARG", "FROM", "ENV", "RUN", "COPY", "WORKDIR", "SHELL", "USER", "ENTRYPOINT", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each with its arguments, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile: words that are none, stages and files that are not there."""
    found, stages = [], set()
    for word, rest in instructions(text):
        if word not in KNOWN:
            found.append(f"unknown instruction {word}")
        elif word == "FROM" and " AS " in rest:
            stages.add(rest.split(" AS ")[1])
        elif word == "COPY":
            *options, source = [part for part in rest.split() if part.startswith("--")] + [""]
            sources = [part for part in rest.split() if not part.startswith("--")][:-1]
            stage = re.match(r"--from=(.*)", options[0]) if options else source
            if stage and stage[1] not in stages:
                found.append(f"no stage {stage[1]}")
            if not options:
                found += [f"no file {name}" for name in sources if not (ROOT / name).exists()]
    return found


def test_it_is_built_of_what_is_there():
    text = DOCKERFILE.read_text()
    assert not faults(text)
    words = dict(instructions(text))  # the last of each
    assert words["USER"] == "1000"
    assert words["ENTRYPOINT"] == '["tini", "--"]'
    (installed,) = [rest for word, rest in instructions(text) if "apt-get install" in rest]
    assert set(installed.split()) >= {"bash", "tini", "wget"}


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("WORKDIR", "WORKDIT", "unknown instruction WORKDIT"),
        ("--from=build", "--from=built", "no stage built"),
        ("COPY dawin_ray", "COPY dawin_rays", "no file dawin_rays"),
        (
            "cluster/constraints.txt /tmp",
            "cluster/constraint.txt /tmp",
            "no file cluster/constrain",
        ),
    ],
)
def test_a_typo_is_found(right, wrong, fault):
    text = DOCKERFILE.read_text()
    assert right in text
    assert fault in " ".join(faults(text.replace(right, wrong, 1)))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint here")
def test_hadolint_has_nothing_to_say(tmp_path):
    def said(text: str) -> str:
        (tmp_path / "Dockerfile").write_text(text)
        done = subprocess.run(["hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True)
        return done.stdout

    text = DOCKERFILE.read_text()
    assert not said(text)
    assert "DL3008" in said(text.replace("# hadolint ignore=DL3008\n", ""))
    assert said(text.replace("WORKDIR /src", "WORKDIT /src"))


def test_versions_are_pinned_and_those_that_the_package_allows():
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert list(pins) == sorted(pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in map(Requirement, project["dependencies"]):
        assert asked.specifier.contains(pins[canonicalize_name(asked.name)]), asked
    # of ray[default]: the dashboard and the metrics
    assert {"aiohttp", "grpcio", "opencensus", "prometheus-client"} <= pins.keys()


@pytest.mark.parametrize("path", [DOCKERFILE, CONSTRAINTS], ids=lambda path: path.name)
def test_no_host_is_named(path):
    assert not re.search(r"https?://|\b\w+\.(com|org|io|dev|net)\b", path.read_text())
