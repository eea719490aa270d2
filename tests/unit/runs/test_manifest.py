"""Manifests are sealed records; older ones are read, newer ones are not."""

from dataclasses import replace

import pytest

from dawin_ray.data.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.runs.class_names import read_class_names, write_class_names
from dawin_ray.runs.folder import Output, Part
from dawin_ray.runs.layout import CLASSES, FINGERPRINT, MANIFEST
from dawin_ray.runs.manifest import Manifest, Rows, manifest_of, seal_of

SHARD = Shard(dataset="set", name="s.tar", address="", format="webdataset", bytes=9, key="s")
OUTPUTS = (
    Part(path="experts/part-00000.parquet", bytes=4, sha256="a", rows=3),
    Output(path="job.yaml", bytes=5, sha256="b"),
)


@pytest.fixture
def manifest(run) -> Manifest:
    found = manifest_of({"job": {"seed": 1}}, {"set": [SHARD]}, {"set": [(3, 1)]}, OUTPUTS, "tf32")
    found.write(run)
    return found


def test_a_manifest_comes_back_with_its_seal(run, manifest):
    found = Manifest.read(run)
    assert replace(found, seal="") == manifest
    assert found.seal == seal_of(run.read_json(MANIFEST))
    assert found.rows == {"set": Rows(predictions=3, rejects=1)}
    assert [type(output) for output in found.outputs] == [Part, Output]


def test_only_parts_have_rows(run, manifest):
    assert ["rows" in output for output in run.read_json(MANIFEST)["outputs"]] == [True, False]


def sealed(content: dict) -> dict:
    return content | {"seal": seal_of(content)}


def test_a_manifest_without_a_version_is_read(run, manifest):
    content = run.read_json(MANIFEST)
    del content["version"]
    run.write_json(MANIFEST, sealed(content))
    assert replace(Manifest.read(run), seal="") == manifest


def test_a_newer_manifest_is_refused(run, manifest):
    run.write_json(MANIFEST, sealed(run.read_json(MANIFEST) | {"version": 2}))
    with pytest.raises(UserError, match=r"manifest\.json' has version 2.*a newer dawin_ray"):
        Manifest.read(run)


def test_a_manifest_that_was_changed_is_refused(run, manifest):
    run.write_json(MANIFEST, run.read_json(MANIFEST) | {"precision": "float32"})
    with pytest.raises(UserError, match="its seal is not that of its content"):
        Manifest.read(run)


def test_a_file_that_is_written_again_is_listed_once(manifest):
    again, more = replace(OUTPUTS[1], sha256="c"), Output(path="more", bytes=1, sha256="d")
    assert manifest.with_outputs([again, more]).outputs == (OUTPUTS[0], again, more)


def test_a_fingerprint_without_a_version_is_resumed_and_a_newer_one_refused(run):
    run.open({"code": "1"}, "")
    assert run.read_json(FINGERPRINT) == {"version": 1, "code": "1"}
    run.write_json(FINGERPRINT, {"code": "1"})
    assert run.open({"code": "1"}, "") == "unfinished"
    run.write_json(FINGERPRINT, {"version": 2, "code": "1"})
    with pytest.raises(UserError, match=r"fingerprint\.json' has version 2"):
        run.open({"code": "1"}, "")


def test_class_names_come_back_whatever_a_data_set_is_called(run):
    names = {"version": ("cat", "dog"), "none": None}
    write_class_names(run, names)
    assert read_class_names(run) == names
    run.write_json(CLASSES, {"a": "cat"})
    with pytest.raises(UserError, match=r"classes\.json' is damaged: a has no list"):
        read_class_names(run)
