"""What the READMEs say of names, keys, defaults, columns and constants is what the code has.

A sentence that a person relies on has a test that fails when it stops being true: the tests of its
module, or one of these. Figures that were measured are none of them; their commands are.
"""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import open_clip
import pyarrow as pa
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from dawin_ray import cli, tables
from dawin_ray.config import Job, load_job, make_job
from dawin_ray.demo.datasets import DATASETS, PRINTED_IMAGES, make_test_set
from dawin_ray.demo.job import write_job
from dawin_ray.engine.compute import ComputeConfig
from dawin_ray.errors import RayLostError, UserError
from dawin_ray.method.baselines import BaselinesConfig, methods_of
from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.expertise import Metric, Target
from dawin_ray.method.mixture import MixtureConfig
from dawin_ray.method.streams import MAX_SAMPLES
from dawin_ray.metrics import METRICS
from dawin_ray.models.checkpoints import folder
from dawin_ray.models.spec import ModelConfig
from dawin_ray.statistics.drift import DriftConfig
from tests.integration.test_s3 import FAULTS
from tests.readme import ALL, CLUSTER, DOCS, README, ROOT, block, blocks, rows, sentence
from tests.unit.test_imports import ORDER

JOB_FILE = block("yaml", "storage_options: ")
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "dawin_ray").rglob("*.py")))
COMMANDS = typer.main.get_command(cli.app).commands


def code_of(text: str) -> list[str]:
    """Code spans, and lines of shell without their comments."""
    shell = [line.split(" #")[0].strip() for b in blocks("bash", text) for line in b.splitlines()]
    plain = re.sub(r"(?ms)^```.*?^```$", "", text)
    return [*shell, *(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", plain))]


# Names


@pytest.mark.parametrize("name", DOCS)
def test_every_file_that_is_named_is_there(name):
    words = [word for code in code_of(DOCS[name]) for word in code.split()]
    ours = [w for w in words if re.fullmatch(r"(jobs|tests|cluster|dawin_ray)/[\w./]*", w)]
    beside = [w for w in words if re.fullmatch(r"\w+\.py", w)]
    paths = [*(ROOT / w for w in ours), *((ROOT / name).parent / w for w in beside)]
    assert not [path for path in paths if not path.exists()]


def links_of(name: str) -> set[Path]:
    """Where the links and pictures of a text lead, but for those to other sites."""
    found = re.findall(r"\]\(([^)#]+)|<img src=\"([^\"]+)", DOCS[name])
    links = {link for pair in found for link in pair if link and "://" not in link}
    return {((ROOT / name).parent / link).resolve() for link in links}


@pytest.mark.parametrize("name", DOCS)
def test_every_link_leads_somewhere(name):
    assert not [link for link in links_of(name) if not link.exists()]


def test_every_text_is_found_from_the_readme():
    found, todo = set(), ["README.md"]
    while todo:
        found.add(name := todo.pop())
        links = links_of(name) | {link / "README.md" for link in links_of(name)}
        named = {str(link.relative_to(ROOT)) for link in links if link.is_relative_to(ROOT)}
        todo += sorted(named & DOCS.keys() - found)
    assert found == DOCS.keys()


def test_the_picture_is_of_the_demos_methods(tmp_path):
    methods = load_job(str(write_job(tmp_path))).methods
    named = {f"{m.name} (uses labels)" if m.uses_labels else m.name for m in methods} | {"DaWin"}
    shown = (ROOT / re.search(r'<img src="([^"]+)"', README)[1]).read_text()
    assert not [name for name in named if f">{name}<" not in shown]
    assert not re.search(r'href="(?!#)', shown)  # it asks for nothing


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_order_of_imports_is_the_one_that_is_held():
    shown = [re.split(r" {2,}", line)[0] for line in block("", "__main__  ").splitlines()]
    assert shown == ORDER.split("\n")[1:-1]


def commands(text: str) -> list[list[str]]:
    """Every use of our commands: its name and arguments, what is optional included."""
    found = []
    for code in code_of(text):
        if "dawin-ray " in code:
            rest = code.split("dawin-ray ", 1)[1].split("&&")[0].split(">>")[0]
            rest = rest.split("' ")[0].rstrip("'")  # of a command that is given to another
            found.append(shlex.split(re.sub(r"[\[\]]|\.\.\.", "", rest)))
    return found


@pytest.mark.parametrize("name", DOCS)
def test_every_command_is_one(name):
    for command, *arguments in commands(DOCS[name]):
        COMMANDS[command].make_context(command, arguments)  # raises for what is unknown


def test_every_command_is_shown():
    assert {command for command, *_ in commands(ALL)} == COMMANDS.keys()
    assert {command for command, *_ in commands(README)} >= {"demo", "plan", "run", "keys"}


def test_every_option_is_one():
    """Those that stand alone in the text, such as --restart."""
    known = {o for c in COMMANDS.values() for p in c.params for o in p.opts + p.secondary_opts}
    alone = [code.split()[0] for code in code_of(ALL) if code.startswith("--")]
    assert {"--restart", "--verbose", "--fail-on-drift", "--thumbnails"} <= set(alone) <= known


def test_a_command_that_is_none_would_be_noticed():
    with pytest.raises(Exception, match="No such option: --samples"):  # typer has its own click
        COMMANDS["verify"].make_context("verify", ["RUN", "--samples", "1"])


def test_verify_takes_the_share_that_the_readme_shows():
    shown = float(re.search(r"verify RUN \[--sample ([\d.]+)\]", ALL)[1])
    (option,) = [p for p in COMMANDS["verify"].params if "--sample" in p.opts]
    assert option.default == shown


def test_exit_codes():
    assert "exit code 1" in sentence("* `dawin-ray verify RUN")
    assert cli.EXIT_DIFFERENT == 1
    assert "and exit code 2. `--verbose`" in sentence("* A wrong job file")
    assert UserError.exit_code == 2
    assert "`--fail-on-drift` ends with exit code 3" in sentence("Each data set of a batch")
    assert "Exit code 3 says that the batch has drifted" in CLUSTER
    assert cli.EXIT_DRIFT == 3
    named = re.findall(r"exit codes? (\d+)(?:, (\d+))?", ALL.casefold())
    known = {str(code) for name, code in vars(cli).items() if name.startswith("EXIT_")}
    known |= {str(error.exit_code) for error in (UserError, RayLostError)}
    known |= {str(128 + number) for number in (signal.SIGINT, signal.SIGTERM)}  # as shells have it
    assert {code for codes in named for code in codes if code} <= known


def test_the_python_that_is_asked_for_is_that_of_the_package_and_of_ci():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r"Python (\d\.\d+) or later", README)[1]
    assert project["requires-python"] == f">={version}"
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    tested = re.findall(r'"(\d\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1])
    assert tested[0] == version
    assert len(tested) >= 3
    assert f'python-version: "{version}"' in workflow  # with the lowest versions, too
    assert "test" in project["optional-dependencies"]


def test_the_command_that_checks_everything_is_the_one_that_ci_runs(tmp_path):
    """With a shell that prints it in place of the one that runs it."""
    script = (ROOT / ".ci" / "run").read_text().replace("exec bash -euxc", "printf %s")
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text(script)
    (tmp_path / "README.md").write_text(README)
    done = subprocess.run(["bash", tmp_path / ".ci" / "run"], capture_output=True, text=True)
    assert done.stdout == block("bash", "pytest -m 'not slow'").rstrip("\n")


@pytest.mark.parametrize("fails", ["", "ruff check", "ruff format", "mypy", "pytest", "pip"])
def test_whatever_fails_fails_the_command_that_checks_everything(tmp_path, fails):
    """With programs that do nothing in the place of those that it calls; some run side by side."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("ruff", "mypy", "pytest", "pip", "python3"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> called\n'
            f'case "{name} $*" in "{fails or "nothing"}"*) exit 1;; esac\n'
        )
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", block("bash", "pytest -m 'not slow'")], cwd=tmp_path,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert bool(done.returncode) == bool(fails)
    if not fails:
        called = (tmp_path / "called").read_text().splitlines()
        assert sorted(line.split()[0] for line in called) == sorted(
            ("python3", "pip", "ruff", "ruff", "mypy", "pytest")
        )


def test_what_runs_before_a_commit_is_part_of_the_check():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert len(hooks) == 3
    checked = block("bash", "pytest -m 'not slow'").split()
    assert {f".venv/bin/{hook['entry'].split()[0]}" for hook in hooks} <= set(checked)


def test_what_takes_minutes_is_marked_slow():
    """As `pytest -m slow` adds it: kills, nodes, a full disk, S3 with faults, large towers."""
    for file, name in (
        ("integration/test_kill.py", "test_the_driver_is_killed_in_every_phase"),
        ("integration/test_kill.py", "test_an_actor_is_killed"),
        ("integration/test_kill.py", "test_a_node_is_lost"),
        ("integration/test_disk.py", "test_the_disk_is_full"),
        ("integration/test_s3.py", "test_a_run_on_faulty_s3_equals_the_local_one"),
        ("unit/method/samplewise/test_classifier.py", "test_timm_towers"),
        ("integration/test_readme.py", "test_the_demo_gives_the_table"),
        ("integration/test_tasks.py", "test_the_demo_gives_the_table_of_its_tasks"),
    ):
        tree = ast.parse((ROOT / "tests" / file).read_text())
        marks = [ast.unparse(n.value) for n in tree.body if isinstance(n, ast.Assign)
                 and ast.unparse(n.targets[0]) == "pytestmark"]  # fmt: skip
        (test,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
        assert "pytest.mark.slow" in [*marks, *map(ast.unparse, test.decorator_list)], name


def test_passes_and_faults_that_the_tests_are_said_to_have():
    tree = (ROOT / "tests" / "integration" / "test_kill.py").read_text()
    both = '@pytest.mark.parametrize("kind", ["experts", "predictions"])\n'
    assert all(f"{both}def {t}" in tree for t in ("test_an_actor_is_killed", "test_a_node_is_lost"))
    text = sentence("* A storage that is busy")
    shown = re.search(r"fails (\d) % of the requests and resets (\d) %", text)
    failing, resets = map(int, shown.groups())
    assert FAULTS[500] + FAULTS[503] == failing / 100
    assert FAULTS["reset"] == resets / 100


def test_models_are_measured_without_ray(small, tmp_path, monkeypatch):
    """By the sections that are said to need none."""
    sections = re.search(r"`dawin-ray bench --device cuda\s+--sections (\w+) [^`]*`", ALL)[1]
    monkeypatch.setitem(sys.modules, "ray", None)  # whoever imports it now fails
    arguments = [
        "bench",
        "--sections", sections, "--architecture", small.config, "--rounds", "1", "--batch", "2",
        "--precisions", "float32", "--out", str(tmp_path / "bench.json"),
    ]  # fmt: skip
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "float32 exact forward" in (tmp_path / "bench.json").read_text()


def test_nothing_is_compiled_or_captured():
    assert "Neither torch.compile nor CUDA graphs are used" in ALL
    for path in (ROOT / "dawin_ray").rglob("*.py"):
        used = {ast.unparse(n) for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Attribute)}  # fmt: skip
        assert not used & {"torch.compile", "torch.cuda.graph", "torch.cuda.CUDAGraph"}, path


# The job file


def flat(value: typing.Any, prefix: str = "") -> dict[str, typing.Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found = {}
    for key, item in value.items():
        found |= flat(item, f"{prefix}.{key}" if prefix else key)
    return found


def test_the_job_file_is_valid_and_shows_every_section_with_its_defaults():
    shown = yaml.safe_load(JOB_FILE)
    assert shown.keys() == Job.model_fields.keys() - {"drift"}  # which has a block of its own
    assert shown["compute"].keys() == ComputeConfig.model_fields.keys()
    assert shown["model"].keys() == ModelConfig.model_fields.keys() - {"preprocess"}
    required = {key: shown[key] for key in ("run_dir", "experts", "datasets")}
    plain = make_job(required | {"model": {"architecture": shown["model"]["architecture"]}})
    made, default = (flat(j.model_dump(mode="json")) for j in (make_job(shown), plain))
    other = {key for key in made if made[key] != default[key]}
    assert other == {"model.class_names", "coefficient.offset_adjustment"}


def line_of(key: str) -> str:
    """The line of the job file that gives a key."""
    (found,) = [line for line in JOB_FILE.splitlines() if re.match(rf"\s*{key}:", line)]
    return found


def choices(model: type, key: str) -> set[str]:
    """The words that a setting may be."""
    todo, found = [model.model_fields[key].annotation], set()
    while todo:
        kind = todo.pop()
        todo += [a for a in typing.get_args(kind) if not isinstance(a, str)]
        found |= {a for a in typing.get_args(kind) if isinstance(a, str)}
    return found


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Job, "mode"), (Job, "fit"), (ModelConfig, "head"),
        (ComputeConfig, "precision"), (ComputeConfig, "device"), (ComputeConfig, "actors"),
    ],
)  # fmt: skip
def test_every_choice_stands_in_its_line_of_the_job_file(model, key):
    assert choices(model, key)
    missing = [word for word in choices(model, key) if not re.search(rf"\b{word}\b", line_of(key))]
    assert not missing


def test_every_choice_of_the_mixture_stands_in_its_line():
    words = choices(MixtureConfig, "clusters") | choices(MixtureConfig, "estimator")
    assert words == {"auto", "exact", "moments", "maximum_likelihood"}
    assert all(word in line_of("mixture") for word in words)


def test_the_smallest_job_is_valid():
    job = make_job(yaml.safe_load(block("yaml", "model: {architecture", README)))
    assert job.mixture.clusters == 3


def test_every_metric_is_named_and_no_other():
    first, second = sentence("* **Metrics** of expertise:").split(" with `target` ")
    assert set(re.findall(r"`(\w+)`", first)) == set(typing.get_args(Metric))
    named = re.findall(r"`(\w+)`", second.split("* ")[0])
    assert set(named) == set(typing.get_args(Target))


def test_the_baselines_have_the_keys_and_prices_that_are_shown():
    shown = block("yaml", "oracle: ")
    values = yaml.safe_load(shown)
    assert values["baselines"].keys() == BaselinesConfig.model_fields.keys()
    nothing = {"even_interpolation": False, "output_ensembles": False}

    def added(key: str, experts: str = "ab") -> list[tuple[str, str]]:
        asked = True if key == "own_expert" else values["baselines"][key]
        config = BaselinesConfig(**nothing | {key: asked})
        methods = methods_of(config, tuple(experts), CoefficientConfig(), 0.3)
        return [(m.kind, m.name) for m in methods[len(experts) :]]

    lines = {key: re.search(rf"(?m)^ *{key}: .* # ?(.*)$", shown)[1] for key in values["baselines"]}
    words = {"output": "none", "static": "one", "samplewise": "about M", "fit": "in pass 2"}
    for key, line in lines.items():
        (kind,) = {kind for kind, _ in added(key)}
        assert words[kind] in line, key
        assert ("about M" in line) == (kind == "samplewise"), key
    assert [name for _, name in added("static")] == ["static_0.1", "static_0.2", "static_0.5"]
    both = BaselinesConfig(static=values["baselines"]["static"], output_ensembles=False)
    methods = methods_of(both, ("a", "b"), CoefficientConfig())
    assert [m.name for m in methods[2:]] == ["even_interpolation", "static_0.1", "static_0.2"]
    assert (len(added("random")), len(added("random", "abc"))) == (3, 1)


def test_twenty_per_cent_of_ties_are_more_of_the_image_tower():
    """Where what is left of a text tower without its blocks, as the reference saves it, counts."""
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    with torch.device("meta"):
        state = open_clip.model.CLIP(**config).state_dict()
    sizes = {k: v.numel() for k, v in state.items() if not k.startswith("transformer.")}
    tower = sum(size for name, size in sizes.items() if name.startswith("visual."))
    said = re.search(r'so that "20 %" are ([\d.]+) % of a ViT-B/32', " ".join(ALL.split()))[1]
    assert float(said) == pytest.approx(100 * 0.2 * sum(sizes.values()) / tower, abs=0.05)


@pytest.mark.parametrize(
    "coefficient", [{"offset_adjustment": True}, {"reference": "a"}, {"calibration": "c.json"}]
)
def test_baselines_with_coefficients_of_their_own_have_none_that_need_a_fit(coefficient):
    job = yaml.safe_load(JOB_FILE)
    job["baselines"] = {"coefficients": [{"metric": "entropy"} | coefficient]}
    with pytest.raises(UserError, match=r"baselines\.coefficients: .* need a fit of their own"):
        make_job(job)


def test_a_growing_run_directory_has_the_keys_and_defaults_that_are_shown():
    shown = yaml.safe_load(block("yaml", "drift: {"))
    assert "the defaults" in block("yaml", "drift: {")
    job = make_job(yaml.safe_load(JOB_FILE) | shown)
    assert job.drift == DriftConfig()
    assert job.drift.alpha == pytest.approx(0.005)
    assert "in 0.5 % of batches" in sentence("Each data set of a batch")


@pytest.mark.parametrize("what", ["compute.address=HEAD:6379", "run_dir=elsewhere"])
def test_the_job_of_the_scheduler_takes_overrides(what):
    job = load_job(str(ROOT / "jobs" / "score_new.yaml"), ["mode=append", what])
    assert what.split("=")[1] in (job.compute.address, job.run_dir)


# What comes out


def kind_of(field: pa.DataType) -> str:
    return f"list<{field.value_type}>" if pa.types.is_list(field) else str(field)


NAMES_OF_TYPES = {"float": "float32", "list<float>": "list<float32>"}


def test_the_table_of_columns_is_the_schema():
    shown: dict[str, str] = {}
    for names, kinds, _ in rows("| column | type |"):
        columns, types = re.findall(r"`(\w+)`", names), kinds.split(", ")
        shown |= dict(zip(columns, types * (len(columns) // len(types)), strict=True))
    schema = {f.name: NAMES_OF_TYPES.get(kind_of(f.type), kind_of(f.type))
              for f in tables.PREDICTIONS}  # fmt: skip
    assert shown.keys() == schema.keys()
    for name, kind in shown.items():
        if kind == "lists":
            assert schema[name].startswith("list<"), name
        else:
            assert schema[name] == kind, name
    assert tables.TOP_CLASSES == 5
    assert "the five most probable" in ALL


def test_what_a_reject_says():
    assert "could not be used: where, why, hash" in ALL
    where_why_hash = {"dataset", "shard", "sample_id", "offset", "reason", "sha256"}
    assert where_why_hash <= set(tables.REJECTS.names)


# The demo


def demo_table() -> dict[str, list[float]]:
    found = rows("| data set | rows | zero_shot")
    return {name.strip("*"): [float(cell or "nan") for cell in cells] for name, *cells in found}


def test_the_demos_table_is_of_its_data_sets_and_its_means_are_means(tmp_path):
    table = demo_table()
    *names, last = table
    assert (names, last) == (list(DATASETS), "mean of the seven shifts")
    held_out = len(make_test_set("digits")[1])
    assert [table[name][0] for name in names] == [held_out] * (len(names) - 1) + [PRINTED_IMAGES]
    total = sum(int(table[name][0]) for name in names)
    job = load_job(str(write_job(tmp_path)))
    text = sentence("The demo scores")
    assert f"{total:,} images, with {len(job.methods)} methods" in text
    assert f"K = {job.mixture.clusters}" in README
    for column in range(1, 5):
        shifts = [table[name][column] for name in names if name != job.in_distribution]
        assert len(shifts) == 7
        assert table[last][column] == pytest.approx(sum(shifts) / 7, abs=0.1)


def test_what_is_said_of_the_demos_table_follows_from_it():
    table, text = demo_table(), sentence("Fine-tuning gained")
    gained, lost, points = map(
        float,
        re.search(
            r"gained ([\d.]+) points .* lost ([\d.]+) over .*\(−([\d.]+) points", text
        ).groups(),
    )
    shifts = [
        row for name, row in table.items() if name != "digits" and not name.startswith("mean")
    ]
    zero_shot, fine_tuned, dawin = (sum(r[i] for r in shifts) / len(shifts) for i in (1, 2, 4))
    assert table["digits"][2] - table["digits"][1] == pytest.approx(gained, abs=0.06)
    assert zero_shot - fine_tuned == pytest.approx(lost, abs=0.1)
    assert zero_shot - dawin == pytest.approx(points, abs=0.1)
    assert max(zero_shot, fine_tuned) == zero_shot


# How it scales out, and what is trusted


def test_mixtures_of_more_samples_are_summarised():
    assert f"more than {MAX_SAMPLES:,} samples are fitted" in " ".join(ALL.split())


def test_checkpoints_are_kept_where_it_says(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    shown = re.search(r"kept in\s+`(~/[\w./]+)`", ALL)[1]
    assert folder() == Path(os.path.expanduser(shown))


def test_a_run_that_joined_a_cluster_stays_for_its_metrics():
    stays, every = map(int, re.search(r"stays for (\d+) s .*every (\d+) s",
                                      " ".join(CLUSTER.split())).groups())  # fmt: skip
    held = float(re.search(r"(?m)^METRICS_SECONDS = ([\d.]+)", SOURCES)[1])
    assert held == stays >= 2 * every


def test_rays_metrics_have_the_names_that_are_shown():
    shown = re.search(r"\(`(dawin_ray_drift)_value`, `_threshold`, `_alarm`", ALL)[1]
    assert {f"{shown}_{key}" for key in ("value", "threshold", "alarm")} <= METRICS.keys()
    assert "`ray_dawin_ray_drift_alarm`" in CLUSTER


def test_ray_refuses_a_second_node_with_the_variable_of_a_single_one():
    name = re.search(r"`(RAY_\w+)=0`, which a run without an address", CLUSTER)[1]
    done = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--address=127.0.0.1:9"],
        env=os.environ | {name: "0"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode
    assert name in done.stdout + done.stderr


def test_ray_job_stop_waits_as_long_as_it_says():
    seconds, name = re.search(
        r"`ray job stop` waits (\d+) s and then kills, unless\s+`(RAY_\w+)=\d+`", CLUSTER
    ).groups()
    script = (  # in a process of its own: an import settles how Ray begins
        "import inspect; from ray.dashboard.modules.job import job_supervisor as module; "
        "print(module.JobSupervisor.DEFAULT_RAY_JOB_STOP_WAIT_TIME_S, inspect.getsource(module))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    default, source = done.stdout.split(" ", 1)
    assert default == seconds
    assert f'"{name}"' in source


def test_the_table_of_promises_names_tests_that_there_are():
    folders = {"U": "unit", "I": "integration", "P": "parity", "C": "cluster"}
    tests, unknown = Path(__file__).parents[1], []
    for line in (tests / "promises.md").read_text().splitlines():
        text = ""
        for file, name in re.findall(r"\b([UIPC]/(?:\w+/)*test_\w+)|::(test_\w+)", line):
            if file:
                path = tests / folders[file[0]] / f"{file[2:]}.py"
                text = path.read_text() if path.exists() else ""
            if not text or (name and f"def {name}" not in text):
                unknown.append(file or name)
    assert not unknown
