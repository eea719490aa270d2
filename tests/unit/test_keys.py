"""`dawin-ray keys`: every key of the job file, and what the settings say of it."""

import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import Job, make_job
from dawin_ray.errors import UserError
from dawin_ray.keys import REQUIRED, keys_of, matching, text_of

KEYS = {key.name: key for key in keys_of()}


def flat(value, prefix="") -> set[str]:
    """Names of all keys of a job, as `keys` has them."""
    found = {prefix.removesuffix("[]")}
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= flat(inner, f"{prefix}.{key}".strip("."))
    if isinstance(value, list) and isinstance(next(iter(value), None), dict):
        for item in value:
            found |= flat(item, f"{prefix}[]")
    return found


def job(**others):
    return make_job({
        "run_dir": "out", "model": {"architecture": "ViT-B-32"},
        "experts": [{"name": n, "checkpoint": f"{n}.pt"} for n in "ab"],
        "datasets": [{"name": "d", "path": "d"}], **others,
    })  # fmt: skip


def test_every_key_of_a_job_is_there_once():
    fits = {"baselines": {"fits": [{"clusters": 2}]}}
    saved = {"fit": {"from": "RUN", "dataset": "d"}}
    head = {"zero_shot": {"class_names": "mnist"}}
    ties = {"baselines": {"ties": {"keep": 0.1}}, "merge": {"base": "base.pt"}}
    heads = {"datasets": [{"name": "d", "path": "d", "head": head}]}
    elastic = {"compute": {"actors": {"min": 1, "max": 2}}}
    given = (fits, saved, ties, heads, elastic)
    jobs = [job(**more).model_dump(mode="json", by_alias=True) for more in given]
    assert KEYS.keys() == {name for values in jobs for name in flat(values)} - {""}
    assert len(KEYS) == len(keys_of())


def test_every_key_says_what_it_means_or_its_section_does():
    def told(key):
        section, _, name = key.name.rpartition(".")
        return key.meaning or f"`{name}`" in KEYS[section.removesuffix("[]")].meaning

    assert not [key.name for key in KEYS.values() if not told(key)]


def test_types_and_defaults_are_those_of_the_settings():
    shown = {name: (KEYS[name].kind, KEYS[name].default) for name in (
        "run_dir", "mode", "experts", "mixture.clusters", "drift.alpha", "baselines.static",
        "in_distribution", "max_reject_fraction", "coefficient", "fit", "fit.from",
    )}  # fmt: skip
    assert shown == {
        "run_dir": ("text", REQUIRED),
        "mode": ("once | append", "once"),
        "experts": ("list of section", REQUIRED),
        "mixture.clusters": ("integer from 1 | auto | exact", "3"),
        "drift.alpha": ("number above 0 below 1", "0.005"),
        "baselines.static": ("list of number from 0 to 1", "[]"),
        "in_distribution": ("text | null", "null"),
        "max_reject_fraction": ("number from 0 to 1", "0.01"),
        "coefficient": ("section", ""),
        "fit": ("per_dataset | joint | section", "per_dataset"),
        "fit.from": ("text", REQUIRED),
    }
    assert KEYS["baselines.coefficients"].meaning.endswith("Keys as of coefficient.")


def test_required_keys_are_those_without_which_no_job_is_made():
    top = {name for name, key in KEYS.items() if key.default == REQUIRED and "." not in name}
    assert top == {name for name, field in Job.model_fields.items() if field.is_required()}


def test_the_command_prints_one_key_and_what_is_in_it():
    done = CliRunner().invoke(app, ["keys", "mixture"])
    assert done.exit_code == 0
    named = [line.split(":")[0] for line in done.output.splitlines() if line[:1] != " "]
    assert named == [name for name in KEYS if name.split(".")[0] == "mixture"]
    assert [key.name for key in matching("experts.name")] == ["experts[].name"]
    assert max(map(len, text_of(KEYS["datasets"]).splitlines())) <= 100


def test_a_key_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(
        UserError, match=r"no key 'mixture.cluster'. Did you mean 'mixture.clusters'"
    ):
        matching("mixture.cluster")
