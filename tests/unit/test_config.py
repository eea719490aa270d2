"""The job file: what is refused and how it reads, overrides, and the way to YAML and back."""

import copy
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dawin_ray.config import Job, load_job, make_job
from dawin_ray.errors import UserError

JOBS = Path(__file__).parents[2] / "jobs"
JOB = {
    "run_dir": "runs/x",
    "model": {"architecture": "ViT-B-32"},
    "experts": [
        {"name": "zero_shot", "checkpoint": "a.pt"},
        {"name": "fine_tuned", "checkpoint": "b.pt", "temperature": 1.5},
    ],
    "datasets": [{"name": "imagenet", "path": "data/imagenet"}],
}


def job(**sections) -> dict:
    return copy.deepcopy(JOB) | sections


JOB_CALIBRATED = {
    "experts": [{"name": n, "checkpoint": f"{n}.pt"} for n in ("zero_shot", "fine_tuned")],
    "coefficient": {"calibration": "c.json"},
}

EIGHT = [{"name": n, "checkpoint": f"{n}.pt"} for n in "abcdefgh"]


@pytest.fixture
def job_file(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(JOB))
    return str(path)


def fault_of(data: dict) -> str:
    with pytest.raises(UserError) as caught:
        make_job(data, "my.yaml")
    message = str(caught.value)
    assert message.startswith("The job file 'my.yaml' is wrong:\n")
    return message.split("\n", 1)[1]


def test_a_short_job_has_the_papers_defaults():
    made = make_job(job())
    assert made.mixture.clusters == 3
    assert made.coefficient.metric == "entropy"
    assert made.merge.scale == 0.3
    assert made.fit == "per_dataset"
    assert [expert.temperature for expert in made.experts] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("sections", "where", "valid", "meant"),
    [
        ({"mixtures": {}}, "mixtures", ("run_dir", "compute"), "mixture"),
        ({"mixture": {"cluster": 3}}, "mixture.cluster", ("clusters", "restarts"), "clusters"),
        ({"datasets": [{"name": "a", "pth": "b"}]}, "datasets.0.pth", ("format", "path"), "path"),
        (
            {"experts": [*JOB["experts"], {"name": "c", "checkpoint": "c", "temprature": 1}]},
            "experts.2.temprature",
            ("checkpoint",),
            "temperature",
        ),
        (
            {"model": {"architecture": "a", "preprocess": {"meen": 1}}},
            "model.preprocess.meen",
            ("mean", "std", "interpolation"),
            "mean",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_valid_ones(sections, where, valid, meant):
    message = fault_of(job(**sections))
    assert f"  {where}: unknown key. Valid here: " in message
    listed = message.split(f"{where}: unknown key. Valid here: ")[1].split(".")[0].split(", ")
    assert set(valid) < set(listed)
    assert f"Did you mean '{meant}'?" in message


def test_a_key_like_no_other_gets_no_suggestion():
    assert "Did you mean" not in fault_of(job(zzz=1))


@pytest.mark.parametrize(
    ("sections", "where", "what"),
    [
        ({"compute": {"batch_size": "many"}}, "compute.batch_size", "'many'"),
        ({"compute": {"batch_size": 0}}, "compute.batch_size", "greater than or equal to 1; got 0"),
        ({"compute": {"precision": "int8"}}, "compute.precision", "'float16'; got 'int8'"),
        ({"compute": {"actors": 0}}, "compute.actors", "greater than or equal to 1; got 0"),
        ({"mixture": 3}, "mixture", "dictionary"),
        ({"experts": JOB["experts"][:1]}, "experts", "at least 2"),
        ({"datasets": []}, "datasets", "at least 1"),
        ({"fit": "together"}, "fit", "'joint'; got 'together'"),
        ({"datasets": [{"name": "a/b", "path": "c"}]}, "datasets.0.name", "'a/b'"),
        (
            {"experts": [*JOB["experts"], {"name": "a", "checkpoint": "b", "temperature": 0}]},
            "experts.2.temperature",
            "greater than 0; got 0",
        ),
        ({"coefficient": {"metric": "cross_entropy"}}, "coefficient", "hard_merged"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(sections, where, what):
    message = fault_of(job(**sections))
    lines = message.splitlines()
    assert all(line.startswith(f"  {where}: ") for line in lines)
    assert any(what in line for line in lines)


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"experts": JOB["experts"]},
         "experts: 'fine_tuned' has a temperature, and coefficient.calibration brings one too"),
        ({"coefficient": {"calibration": "c.json", "offset_adjustment": True}},
         "calibration goes with metric: entropy and without offset_adjustment and reference"),
        ({"coefficient": {"calibration": "c.json", "metric": "margin"}},
         "calibration goes with metric: entropy and without offset_adjustment and reference"),
        ({"coefficient": {"calibration": "c.json", "reference": "imagenet"}},
         "calibration goes with metric: entropy and without offset_adjustment and reference"),
        ({"fit": "joint"}, "fit: joint is one for all data sets, and coefficient.calibration has"),
        ({"baselines": {"fits": [{"offset_adjustment": True}]}},
         "baselines.fits: offset_adjustment and coefficient.calibration shift the same scores"),
    ],
)  # fmt: skip
def test_a_calibration_takes_the_place_of_what_it_brings(sections, what):
    make_job(job(**JOB_CALIBRATED))
    assert what in fault_of(job(**JOB_CALIBRATED | sections))


def test_a_missing_key_is_named():
    data = job(model={})
    del data["run_dir"]
    assert fault_of(data).splitlines() == [
        "  run_dir: missing, but required",
        "  model.architecture: missing, but required",
    ]


@pytest.mark.parametrize("what", ["experts", "datasets"])
def test_a_name_given_twice_is_refused(what):
    item = JOB[what][0]
    message = fault_of(job(**{what: [item, item]}))
    assert f"{what}: the name '{item['name']}' is given twice" in message


def test_unknown_clusters_are_refused_with_what_is_valid():
    message = fault_of(job(mixture={"clusters": "some"}))
    assert all(line.startswith("  mixture.clusters: ") for line in message.splitlines())
    assert all(part in message for part in ("'auto'", "'exact'", "integer", "got 'some'"))


@pytest.mark.parametrize(
    ("clusters", "offset", "exact", "one_pass"),
    [("exact", False, True, True), ("exact", True, True, False), (3, False, False, False)],
)
def test_one_pass_is_enough_where_coefficients_depend_on_the_sample_alone(
    clusters, offset, exact, one_pass
):
    sections = {"mixture": {"clusters": clusters}, "coefficient": {"offset_adjustment": offset}}
    made = make_job(job(**sections))
    assert (made.exact, made.one_pass) == (exact, one_pass)


def test_a_cache_that_cannot_be_mapped_is_refused():
    assert "crops are files of a file system" in fault_of(job(compute={"cache": "s3://b/c"}))


def test_a_key_that_is_no_text_is_refused():
    assert "1" in fault_of(job(compute={1: 2}))


# Files and overrides


def test_a_job_file_loads(job_file):
    assert load_job(job_file) == make_job(job())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "no valid YAML"),
        ("- a\n- b\n", "must be a mapping with the keys run_dir, mode, model"),
        ("", "must be a mapping"),
        ("caf\xe9: 1".encode("latin-1"), "no valid YAML"),
    ],
)
def test_a_file_that_is_no_job_is_refused(tmp_path, text, message):
    path = tmp_path / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as caught:
        load_job(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_job_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"job file.*none\.yaml.*does not exist"):
        load_job(str(tmp_path / "none.yaml"))


def test_overrides_change_just_what_they_name(job_file):
    overrides = [
        "run_dir=s3://bucket/a=b",
        "compute.batch_size=64",
        "mixture.clusters=auto",
        "datasets.0.path=elsewhere",
        "experts.1.temperature=0.5",
        "coefficient={metric: entropy, offset_adjustment: true}",
        "datasets.0.classes=null",
    ]
    made = load_job(job_file, overrides)
    expected = job(
        run_dir="s3://bucket/a=b",
        compute={"batch_size": 64},
        mixture={"clusters": "auto"},
        datasets=[{"name": "imagenet", "path": "elsewhere"}],
        coefficient={"offset_adjustment": True},
    )
    expected["experts"][1]["temperature"] = 0.5
    assert made == make_job(expected)


def test_a_later_override_wins_and_a_whole_item_can_be_replaced(job_file):
    made = load_job(job_file, ["datasets.0={name: b, path: c}", "fit=joint", "fit=per_dataset"])
    assert (made.datasets[0].name, made.fit) == ("b", "per_dataset")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compute.batch_size", r"'compute\.batch_size' is no key=value, such as"),
        ("experts.2.temperature=1", r"index below 2, got '2'"),
        ("experts.last.temperature=1", r"index below 2, got 'last'"),
        ("datasets.1=x", r"index below 1, got '1'"),
        ("datasets.-1.path=x", r"index below 1, got '-1'"),
        ("run_dir.x.y=1", r"'run_dir' is a value and has no keys"),
        ("run_dir.x=1", r"'run_dir' is a value and has no keys"),
        ("compute.batch_size=[1", r"'compute\.batch_size=\[1'"),
        ("compute.batchsize=1", r"compute\.batchsize: unknown key.*Did you mean 'batch_size'"),
        ("mixture.clusters=some", r"mixture\.clusters: "),
    ],
)
def test_a_wrong_override_is_refused(job_file, override, message):
    with pytest.raises(UserError, match=message):
        load_job(job_file, [override])


# The resolved job


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {
            "fit": "joint",
            "mixture": {"clusters": "auto", "tolerance": 1e-7},
            "compute": {"actors": 2, "precision": "bfloat16"},
            "model": {"architecture": "x.json", "preprocess": {"mean": [0.1, 0.2, 1 / 3]}},
            "coefficient": {"metric": "cross_entropy", "target": "soft_merged"},
            "merge": {"base": "s3://b/base.pt", "scale": 0.7},
        },
    ],
)
def test_yaml_gives_the_same_job_back(tmp_path, sections):
    made = make_job(job(**sections))
    path = tmp_path / "resolved.yaml"
    path.write_text(made.to_yaml())
    assert load_job(str(path)) == made
    assert load_job(str(path)).to_yaml() == made.to_yaml()


def test_yaml_spells_every_default_out():
    written = yaml.safe_load(make_job(job()).to_yaml())
    assert set(written) == set(Job.model_fields)
    assert written["datasets"][0]["format"] is None
    assert written["mixture"]["seed"] == 1
    assert "python/" not in make_job(job()).to_yaml()


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_job_files_that_come_with_the_project_are_valid(path):
    assert load_job(str(path)).datasets


@pytest.mark.parametrize(
    "name",
    ["2024", "007", "1.5", "1e5", "1E-05", "NaN", "inf", "true", "False", "null", "None", "NA",
     "2024-01-01", "20240101T06", "2026-11-25T0600", "0x1F", "1_000", "3-4"],
)  # fmt: skip
def test_a_name_that_would_come_back_as_something_else_is_refused(name):
    with pytest.raises(UserError, match=rf"datasets\.0\.name: '{re.escape(name)}'.*'set-{name}'"):
        make_job(JOB | {"datasets": [{"name": name, "path": "x"}]})


@pytest.mark.parametrize(
    "name", ["set-2024", "v2", "2nd", "e5", "nano", "info", "imagenet-a", "2024-01-01-a", "1a"]
)
def test_other_names_come_back_from_pandas_as_they_are(tmp_path, name):
    make_job(JOB | {"datasets": [{"name": name, "path": "x"}]})
    folder = tmp_path / "predictions" / f"dataset={name}"
    folder.mkdir(parents=True)
    pd.DataFrame({"label": [1]}).to_parquet(folder / "0.parquet")
    assert list(pd.read_parquet(tmp_path / "predictions").dataset.astype(object)) == [name]


@pytest.mark.parametrize(
    "sections",
    [
        {"coefficient": {"offset_adjustment": True}},
        {"baselines": {"fits": [{"offset_adjustment": True}]}},
    ],
    ids=str,
)
def test_the_offset_adjustment_is_refused_for_more_than_two_experts(sections):
    make_job(job(**sections))
    fault = fault_of(job(experts=EIGHT, **sections))
    assert "offset_adjustment is defined for 2 experts, and this job has 8" in fault


def test_a_data_set_says_whose_task_it_is_and_has_one_head():
    def of_set(**more):
        return job(datasets=[{"name": "mnist", "path": "data/mnist", **more}])

    made = make_job(of_set(expert="fine_tuned", head={"checkpoint": "head_mnist.safetensors"}))
    (dataset,) = made.datasets
    assert dataset.expert == "fine_tuned"
    assert dataset.head.checkpoint == "head_mnist.safetensors"
    assert "expected one of zero_shot, fine_tuned" in fault_of(of_set(expert="fine-tuned"))
    either = "datasets.0.head: give either checkpoint: FILE or zero_shot: {class_names: ...}"
    zero_shot = {"class_names": "mnist"}
    for head in ({}, {"checkpoint": "a.pt", "zero_shot": zero_shot}):
        assert either in fault_of(of_set(head=head))
    for texts in ({"templates": "mnist.txt"}, {"class_names": "mnist"}):
        both = fault_of(of_set(head={"zero_shot": zero_shot}, **texts))
        assert "'mnist' has templates or class_names beside its head" in both


@pytest.mark.parametrize(
    ("key", "value"),
    [("task_arithmetic", [0.3]), ("ties", {"keep": 0.2}), ("base", True)],
)
def test_baselines_of_task_vectors_need_their_base(key, value):
    message = fault_of(job(baselines={key: value}))
    assert f"baselines.{key}: it is made of a base, and this job has none" in message
    assert "merge.base" in message
    make_job(job(baselines={key: value, "averaging": True}, merge={"base": "base.pt"}))
    make_job(job(baselines={"averaging": True}))


def test_a_tasks_own_expert_needs_every_data_set_to_name_it():
    names = {"one": "zero_shot", "two": None}
    sets = [{"name": n, "path": n, "expert": expert} for n, expert in names.items()]
    message = fault_of(job(datasets=sets, baselines={"own_expert": True}))
    assert "baselines.own_expert: whose task 'two' is, is not known" in message
    make_job(job(datasets=sets[:1], baselines={"own_expert": True}))


def test_what_is_left_to_fill_in_is_named(small, tmp_path):
    """As `dawin-ray init` leaves it; a value behind the file fills it in."""
    job = small.job(tmp_path / "run", [{"name": "set", "path": str(tmp_path)}])
    job["model"]["architecture"] = "FILL IN: an open_clip name"
    job["datasets"][0]["head"] = "FILL IN: {checkpoint: FILE}"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    with pytest.raises(UserError) as error:
        load_job(str(path))
    assert str(error.value).splitlines()[1:] == [
        "  datasets.0.head: {checkpoint: FILE}",
        "  model.architecture: an open_clip name",
    ]
    given = [f"model.architecture={small.config}", "datasets.0.head={checkpoint: a.safetensors}"]
    assert load_job(str(path), given).model.architecture == small.config
