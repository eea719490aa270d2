"""Everything that a value depends on is told by its content: edited, it makes another job."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job.plan import plan_of
from dawin_ray.job.prepare import Prepared, prepare
from dawin_ray.job.score import score
from dawin_ray.method.fit import Fit
from dawin_ray.models import architecture as architectures
from dawin_ray.models import texts
from dawin_ray.models.experts import load_experts
from dawin_ray.models.found import find_models
from dawin_ray.records import write_record
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.fits import FitEntry, SavedFits
from dawin_ray.statistics import ScoredRows
from tests.conftest import (
    CLASSES,
    MODEL_CONFIG,
    expert_state,
    make_images,
    whole_state,
    write_folder,
    write_tar,
)

NAMES = [f"thing {i}" for i in range(CLASSES)]


class Case:
    """A job whose every text is a file: `edit` changes one of them, and the path stays."""

    def __init__(self, folder, zero_shot: bool):
        self.folder, self.zero_shot = folder, zero_shot
        (folder / "model.json").write_text(json.dumps(MODEL_CONFIG))
        (folder / "names.txt").write_text("\n".join(NAMES))
        (folder / "lines.txt").write_text("a photo of a {}.\nart of a {c}")
        (folder / "list.txt").write_text("0\n2\n1\n")
        (folder / "map.json").write_text('{"low": [0, 1, 2], "high": [3, 4, 5]}')
        for i in range(2):
            state = whole_state(i) if zero_shot else expert_state(i)
            save_file(state, folder / f"e{i}.safetensors")
        for name in ("listed", "mapped"):
            write_tar(folder / name / "a.tar", make_images(4), None)

    def job(self, **sections):
        at = {name: str(self.folder / name) for name in
              ("model.json", "names.txt", "lines.txt", "list.txt", "map.json")}  # fmt: skip
        model = {"architecture": at["model.json"], "class_names": at["names.txt"]}
        if self.zero_shot:
            model["templates"] = at["lines.txt"]
        job = {
            "run_dir": str(self.folder / "run"),
            "model": model,
            "experts": [
                {"name": f"e{i}", "checkpoint": str(self.folder / f"e{i}.safetensors")}
                for i in range(2)
            ],
            "datasets": [
                {"name": "listed", "path": str(self.folder / "listed"), "classes": at["list.txt"]},
                {"name": "mapped", "path": str(self.folder / "mapped"), "classes": at["map.json"]},
            ],
            "mixture": {"clusters": 2},
        }
        return make_job(job | sections)

    def prepare(self, **sections) -> Prepared:
        return prepare(self.job(**sections))

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(params=[True, False], ids=["zero-shot", "trained"])
def case(request, tmp_path) -> Case:
    return Case(tmp_path, request.param)


class Silent:
    """A progress that says nothing, and to which no run may get."""

    def phase(self, name, total):
        pytest.fail(f"{name} began")

    def say(self, message):
        if not message.startswith("run directory "):
            pytest.fail(message)


EDITS = {
    "templates": ("lines.txt", "art of", "no art of", "inputs.templates."),
    "class names": ("names.txt", "thing 5", "thing V", "inputs.class_names."),
    "class list": ("list.txt", "0\n2", "0\n3", "inputs.classes.listed/"),
    "class list, order": ("list.txt", "0\n2\n1", "2\n0\n1", "inputs.classes.listed/"),
    "mapping": ("map.json", "[0, 1, 2]", "[0, 1]", "inputs.classes.mapped/"),
    "mapping, names": ("map.json", '"low"', '"lower"', "inputs.classes.mapped/"),
    "model config": ("model.json", '"embed_dim"', '"quick_gelu": true, "embed_dim"',
                     "inputs.architecture."),
}  # fmt: skip


@pytest.mark.parametrize("finished", [False, True], ids=["killed", "finished"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_run_of_an_edited_text_is_refused_with_the_diff(case, edit, finished):
    name, old, new, key = edit
    if name == "lines.txt" and not case.zero_shot:
        pytest.skip("a trained head has no templates")
    run, before = RunDirectory(str(case.folder / "run")), case.prepare()
    run.open({**before.fingerprint, "precision": "float32"}, case.job().to_yaml())
    if finished:
        run.write_json("manifest.json", {})
    assert run.state(case.prepare().fingerprint) == ("finished" if finished else "unfinished")
    case.edit(name, old, new)
    with pytest.raises(UserError) as caught:
        score(case.prepare(), Silent())  # before anything starts
    lines = [line for line in str(caught.value).splitlines() if f"{key}" in line]
    assert len(lines) == 1
    assert str(case.folder / name) in lines[0]
    assert " there, " in lines[0]
    assert lines[0].endswith(" here")


def test_what_changes_no_value_makes_no_other_job(case):
    before = case.prepare().fingerprint
    case.edit("names.txt", "thing 0", "\n  thing 0 ")
    case.edit("lines.txt", "{c}", "{}")
    case.edit("map.json", "[0, 1, 2]", "[0,1,2]")
    (case.folder / "model.json").write_text(json.dumps(MODEL_CONFIG, indent=4))
    assert case.prepare().fingerprint == before


def test_a_list_of_open_clip_is_told_by_its_content_too(case, monkeypatch):
    if not case.zero_shot:
        return
    model = case.job().model.model_dump() | {"templates": "simple-imagenet"}
    before = case.prepare(model=model).fingerprint["inputs"]["templates"]["simple-imagenet"]
    changed = {"simple-imagenet": ("an other {}.",)}
    monkeypatch.setattr(texts, "known_templates", lambda: changed)
    after = case.prepare(model=model).fingerprint["inputs"]["templates"]["simple-imagenet"]
    assert before != after


@pytest.mark.parametrize("library", architectures.LIBRARIES)
def test_another_version_of_a_library_that_changes_bits_is_refused(case, library, monkeypatch):
    run = RunDirectory(str(case.folder / "run"))
    run.open(case.prepare().fingerprint, "")
    real = architectures._version
    monkeypatch.setattr(
        architectures, "_version", lambda name: "0.1" if name == library else real(name)
    )
    with pytest.raises(UserError, match=rf"libraries\.{library}: {real(library)}.* there, 0\.1 he"):
        run.state(case.prepare().fingerprint)


def test_a_run_of_before_there_were_such_digests_is_refused_with_a_readable_diff(case):
    run, prepared = RunDirectory(str(case.folder / "run")), case.prepare()
    old = {k: v for k, v in prepared.fingerprint.items() if k not in ("inputs", "libraries")}
    run.open(old, "")
    with pytest.raises(UserError, match=r"inputs\.architecture\.\S+model\.json: absent there"):
        run.state(prepared.fingerprint)


# Workers


@pytest.mark.parametrize("name", ["lines.txt", "names.txt"])
def test_a_worker_builds_the_head_from_the_texts_that_were_hashed(tmp_path, name):
    case = Case(tmp_path, True)
    prepared = case.prepare()
    before = load_experts(prepared.spec.model)
    (tmp_path / name).write_text("\n".join(f"{{}} {i}" for i in range(CLASSES)))
    after = load_experts(prepared.spec.model)
    for one, other in zip(before.states, after.states, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_worker_refuses_a_model_config_that_was_edited_meanwhile(case):
    prepared = case.prepare()
    load_experts(prepared.spec.model)
    case.edit("model.json", '"embed_dim"', '"quick_gelu": true, "embed_dim"')
    with pytest.raises(UserError, match=r"model config .*model\.json' changed while the run was"):
        load_experts(prepared.spec.model)


def test_a_worker_refuses_other_weights_under_the_name_of_a_tag(case, monkeypatch):
    weights = {0: whole_state(0) | expert_state(0)}
    monkeypatch.setattr("dawin_ray.models.experts._read_pretrained", lambda *_: dict(weights[0]))
    monkeypatch.setattr("dawin_ray.models.found.of_experts", lambda *_: ({}, ""))
    experts = [{"name": n, "checkpoint": "some_tag"} for n in ("a", "b")]
    prepared = case.prepare(experts=experts)
    assert prepared.fingerprint["checkpoints"]["some_tag"].startswith("tag some_tag ")
    load_experts(prepared.spec.model)
    weights[0] = weights[0] | {"visual.proj": weights[0]["visual.proj"] + 1}
    assert case.prepare(experts=experts).identity != prepared.identity
    with pytest.raises(UserError, match="pretrained tag 'some_tag' changed"):
        load_experts(prepared.spec.model)


# Saved fits


def save_fit(prepared: Prepared, path) -> None:
    draw = np.random.default_rng(0)
    entropies, shares = draw.random((9, 2)), draw.dirichlet([1, 1], 9)
    rows = ScoredRows.of(
        entropy=entropies, coefficient=shares, cluster=None,
        expert_prediction=np.zeros((9, 2), int),
    )  # fmt: skip
    names = ("e0", "e1")
    entries = {
        name: FitEntry.of(
            Fit(), names, rows, count=prepared.spec.classes[name].count,
            classes=prepared.fingerprint["classes"][name], texts=prepared.texts[name],
        )
        for name in prepared.shards
    }  # fmt: skip
    identity = dict(prepared.identity)
    saved = SavedFits(code="0", names=names, identity=identity, datasets=entries)
    path.write_bytes(write_record(saved))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_fit_of_an_edited_text_is_refused(case, edit):
    name, old, new, _ = edit
    if name == "lines.txt" and not case.zero_shot:
        pytest.skip("a trained head has no templates")
    only = "listed" if name == "list.txt" else "mapped" if name == "map.json" else "listed"
    sections = {
        "fit": {"from": str(case.folder / "fit.json"), "dataset": only},
        "datasets": [d.model_dump() for d in case.job().datasets if d.name == only],
        "mixture": {"clusters": "exact"},
    }
    save_fit(case.prepare(), case.folder / "fit.json")
    assert case.prepare(**sections).saved is not None
    case.edit(name, old, new)
    if name == "names.txt":  # a class that the data set does not have counts for the head alone
        case.edit(name, "thing 2", "thing II")
    with pytest.raises(UserError, match="does not hold for this job") as caught:
        case.prepare(**sections)
    expected = {
        "lines.txt": "templates of 'listed': ",
        "names.txt": "class_names of 'listed': " if case.zero_shot else "classes of 'listed'",
        "list.txt": "classes of 'listed'",
        "map.json": "classes of 'mapped'",
        "model.json": "architecture: ",
    }
    assert expected[name] in str(caught.value)


def test_a_fit_holds_under_another_torch(case, monkeypatch):
    """A fit is a statistic of many values, of which another version moves the last bits."""
    before = case.prepare().identity
    monkeypatch.setattr(architectures, "_version", lambda name: "0.1")
    assert case.prepare().identity == before


# Heads


def test_the_tower_is_compared_before_a_head_is_asked_for(tmp_path):
    case = Case(tmp_path, False)
    state = {f"vision_model.{i}": torch.ones(2) for i in range(3)}
    save_file(state, tmp_path / "e0.safetensors")
    model = {"architecture": str(tmp_path / "model.json")}
    with pytest.raises(UserError, match=r"'e0'.*does not fit.*Hugging Face"):
        case.prepare(model=model)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_trained_head_is_never_dropped(tmp_path, lacking):
    case = Case(tmp_path, False)
    both = [whole_state(i) | expert_state(i) for i in range(2)]
    for i, state in enumerate(both):
        kept = {k: v for k, v in state.items() if i != lacking or "classification_head" not in k}
        save_file(kept, tmp_path / f"e{i}.safetensors")
    with pytest.raises(
        UserError, match=rf"e{1 - lacking} has a trained head.*and e{lacking} has no"
    ):
        case.prepare()


def test_trained_heads_that_are_not_used_are_told(tmp_path, caplog):
    case = Case(tmp_path, True)
    for i in range(2):
        save_file(whole_state(i) | expert_state(i), tmp_path / f"e{i}.safetensors")
    model = case.job().model.model_dump()
    assert case.prepare(model=model).spec.tasks["listed"].head == "checkpoint"
    assert "not used" not in caplog.text
    case.prepare(model=model | {"head": "zero_shot"})
    assert "the trained heads of e0, e1 are not used for listed, mapped" in caplog.text
    own = [d.model_dump() for d in case.job().datasets]
    own[1]["class_names"] = model["class_names"]
    caplog.clear()
    prepared = case.prepare(model=model, datasets=own)
    assert prepared.spec.tasks["listed"].head == "checkpoint"
    assert "are not used for mapped: head or class_names of its own" in caplog.text
    with pytest.raises(UserError, match=r"'mapped' has class_names of its own"):
        case.prepare(model=model | {"head": "checkpoint"}, datasets=own)


def test_the_base_must_have_a_head_too(tmp_path):
    case = Case(tmp_path, False)
    save_file({k: v for k, v in expert_state(5).items() if k.startswith("visual.")},
              tmp_path / "base.safetensors")  # fmt: skip
    with pytest.raises(UserError, match=r"e0, e1 have a trained head.*and merge\.base has no"):
        case.prepare(merge={"base": str(tmp_path / "base.safetensors")})
    more = expert_state(5) | {"classification_head.weight": torch.ones(CLASSES + 1, 16),
                              "classification_head.bias": torch.ones(CLASSES + 1)}  # fmt: skip
    save_file(more, tmp_path / "base.safetensors")
    with pytest.raises(UserError, match=r"of 'e0'.* and of 'merge\.base'.* heads that differ"):
        case.prepare(merge={"base": str(tmp_path / "base.safetensors")})


# A data set's own head


def with_head(case, **head):
    (dataset,) = [d.model_dump() for d in case.job().datasets if d.name == "mapped"]
    return {"datasets": [dataset | {"classes": None, "head": head}]}


def test_a_changed_head_makes_another_job_and_its_fit_is_refused(tmp_path):
    case = Case(tmp_path, False)
    path = tmp_path / "head.safetensors"
    head = {k: v for k, v in expert_state(4).items() if k.startswith("classification_head")}
    save_file(head, path)
    sections = with_head(case, checkpoint=str(path))
    before = case.prepare(**sections)
    assert before.fingerprint["inputs"]["head"] == {str(path): before.texts["mapped"]["head"]}
    run = RunDirectory(str(tmp_path / "run"))
    run.open({**before.fingerprint, "precision": "float32"}, case.job(**sections).to_yaml())
    save_fit(before, tmp_path / "fit.json")
    applied = sections | {
        "fit": {"from": str(tmp_path / "fit.json"), "dataset": "mapped"},
        "mixture": {"clusters": "exact"},
    }
    assert case.prepare(**applied).saved is not None

    head["classification_head.bias"][2] += 1e-6
    save_file(head, path)
    with pytest.raises(UserError, match=r"of another job(?s:.)*inputs\.head\.") as caught:
        score(case.prepare(**sections), Silent())
    assert f"inputs.head.{path}: " in str(caught.value)
    with pytest.raises(UserError, match=r"does not hold(?s:.)*head of 'mapped': "):
        case.prepare(**applied)


def test_texts_of_a_data_sets_head_are_inputs_and_the_base_makes_it(tmp_path):
    case = Case(tmp_path, True)
    zero_shot = {"class_names": str(tmp_path / "names.txt")}
    sections = with_head(case, zero_shot=zero_shot)
    own = case.prepare(**sections)
    assert own.fingerprint["inputs"]["class_names"].keys() == {str(tmp_path / "names.txt")}
    assert own.fingerprint["inputs"]["templates"].keys() == {str(tmp_path / "lines.txt")}
    base = case.prepare(**sections, merge={"base": str(tmp_path / "e0.safetensors")})
    assert base.fingerprint["inputs"]["text_tower"] == {"mapped": "merge.base"}
    assert base.spec.tasks["mapped"].head == own.spec.tasks["mapped"].head
    known = case.prepare(**with_head(case, zero_shot={"class_names": "mnist"}))
    assert known.fingerprint["inputs"]["templates"].keys() == {"mnist"}
    assert known.class_names["mapped"] == tuple("0123456789")


def test_class_names_beside_a_head_of_a_file_name_its_classes(tmp_path):
    case = Case(tmp_path, False)
    sections = with_head(case, checkpoint=str(tmp_path / "e1.safetensors"))
    assert case.prepare(**sections).class_names["mapped"] is None
    sections["datasets"][0]["class_names"] = str(tmp_path / "names.txt")
    named = case.prepare(**sections)
    assert named.class_names["mapped"] == tuple(NAMES)
    assert named.fingerprint["inputs"]["class_names"].keys() == {str(tmp_path / "names.txt")}
    case.edit("names.txt", "thing 5", "thing 5\nthing 6")
    with pytest.raises(UserError, match=r"class_names of 'mapped' has 7 names, but its head.* 6 "):
        case.prepare(**sections)


def test_a_job_without_the_later_keys_is_the_one_that_it_was(tmp_path):
    job = Case(tmp_path, False).prepare().fingerprint["job"]
    assert job["datasets"][0].keys() == {
        "name", "path", "format", "classes", "class_names", "templates", "image_column",
        "label_column", "skip_other_folders", "crop_border",
    }  # fmt: skip
    of_task = [d.model_dump() | {"expert": "e1"} for d in Case(tmp_path, False).job().datasets]
    used = Case(tmp_path, False).prepare(datasets=of_task)
    assert used.fingerprint["job"]["datasets"][0]["expert"] == "e1"
    assert used.spec.tasks["listed"].expert == "e1"


def test_a_plan_says_each_data_sets_head_and_whose_task_it_is(tmp_path):
    case = Case(tmp_path, False)
    path = str(tmp_path / "e1.safetensors")
    sections = with_head(case, checkpoint=path)
    sections["datasets"][0]["expert"] = "e1"
    sections["datasets"].append(case.job().datasets[0].model_dump())
    lines = [line for line in plan_of(case.prepare(**sections)) if isinstance(line, str)]
    assert f"head      mapped: of {path}, one for all models; it is the task of e1" in lines
    whose = "of each expert (e0, e1) the one that its checkpoint was saved with"
    assert [line for line in lines if "listed: of" in line] == [f"head      listed: {whose}"]


# What a data set brings


def test_class_names_beside_the_shards_order_its_labels(tmp_path, caplog):
    case = Case(tmp_path, False)
    shuffled = [NAMES[i] for i in (3, 0, 1, 2, 5, 4)]
    (tmp_path / "listed" / "classnames.txt").write_text("\n".join(shuffled))
    datasets = [{"name": "listed", "path": str(tmp_path / "listed")}]
    prepared = case.prepare(datasets=datasets)
    assert prepared.spec.classes["listed"].members == ((3,), (0,), (1,), (2,), (5,), (4,))
    assert prepared.class_names["listed"] == tuple(shuffled)
    assert "mapped by name" in caplog.text
    (tmp_path / "listed" / "classnames.txt").write_text("\n".join([*shuffled[:5], "other"]))
    with pytest.raises(UserError, match=r"label 5, 'other', is none of the head's.*datasets\[\]"):
        case.prepare(datasets=datasets)


def test_texts_that_a_data_set_brings_are_inputs_wherever_it_lies(tmp_path):
    case = Case(tmp_path, True)
    for name, text in (("classnames.txt", "\n".join(NAMES)),
                       ("zeroshot_classification_templates.txt", "an {c}")):  # fmt: skip
        (tmp_path / "listed" / name).write_text(text)

    def found(folder):
        datasets = [{"name": "d", "path": str(tmp_path / folder)}]
        return case.prepare(datasets=datasets).fingerprint["inputs"]

    before = found("listed")
    assert {*before["class_names"]} == {"d/classnames.txt"}
    assert {*before["templates"]} == {"d/zeroshot_classification_templates.txt"}
    shutil.copytree(tmp_path / "listed", tmp_path / "moved")
    assert found("moved") == before
    (tmp_path / "moved" / "zeroshot_classification_templates.txt").write_text("no {c}")
    assert found("moved")["templates"] != before["templates"]


# The plan


def test_the_plan_says_the_pixels_and_where_they_come_from(tmp_path):
    case = Case(tmp_path, False)
    [line] = [x for x in plan_of(case.prepare()) if isinstance(x, str) and x.startswith("pixels")]
    assert "mean (0.4815, 0.4578, 0.4082), std (0.2686, 0.2613, 0.2758), bicubic" in line
    assert "shortest; from open_clip's default of the architecture" in line
    model = case.job().model.model_dump() | {"preprocess": {"interpolation": "bilinear"}}
    [line] = [
        x for x in plan_of(case.prepare(model=model)) if isinstance(x, str) and x[:6] == "pixels"
    ]
    assert "bilinear" in line
    assert "with model.preprocess (interpolation)" in line


def test_folders_without_a_head_of_names_are_unchanged(small, tmp_path):
    root = write_folder(tmp_path / "folder", make_images(6), list(range(CLASSES)))
    job = make_job(small.job(tmp_path / "run", [{"name": "d", "path": str(root)}]))
    assert prepare(job).fingerprint["inputs"].keys() == {"architecture"}
    assert find_models(job.model, job.experts, job.merge.base).trained == {
        "expert_0": True,
        "expert_1": True,
    }
