"""What kustomize makes of a folder, and whether Kubernetes would take it: as far as we use both.

Strict, as `kubectl apply --validate=strict`: an unknown field is an error.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMAS = Path(__file__).parent / "schemas"
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A schema of an object with these keys and no other."""
    return {
        "type": "object", "properties": properties, "required": list(required),
        "additionalProperties": False,
    }  # fmt: skip


METADATA = closed({"name": NAME, "namespace": NAME, "labels": TEXTS, "annotations": TEXTS}, "name")

# What we use of monitoring.coreos.com/v1, after the API reference of the Prometheus operator.
POD_MONITOR = closed(
    {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "PodMonitor"},
        "metadata": METADATA,
        "spec": closed(
            {
                "selector": closed({"matchLabels": TEXTS}, "matchLabels"),
                "podTargetLabels": {"type": "array", "items": {"type": "string"}},
                "podMetricsEndpoints": {
                    "type": "array",
                    "items": closed(
                        {"port": NAME, "interval": {"type": "string", "pattern": r"^\d+s$"}}, "port"
                    ),
                },
            },
            "selector", "podMetricsEndpoints",
        ),
    },
    "apiVersion", "metadata", "spec",
)  # fmt: skip
VERSIONS = {
    "RayJob": "ray.io/v1", "RayCronJob": "ray.io/v1", "CronJob": "batch/v1",
    "ServiceAccount": "v1", "ConfigMap": "v1", "PodMonitor": "monitoring.coreos.com/v1",
}  # fmt: skip

KUSTOMIZATION = closed(
    {
        "apiVersion": {"const": "kustomize.config.k8s.io/v1beta1"},
        "kind": {"const": "Kustomization"},
        "namespace": NAME,
        "resources": {"type": "array", "items": {"type": "string"}},
        "images": {
            "type": "array",
            "items": closed({key: {"type": "string"} for key in ("name", "newName", "newTag")}),
        },
        "configMapGenerator": {
            "type": "array",
            "items": closed({"name": NAME, "files": {"type": "array"}}, "name", "files"),
        },
        "generatorOptions": closed({"disableNameSuffixHash": {"const": True}}),
        "patches": {
            "type": "array",
            "items": closed(
                {"target": closed({"kind": NAME | {"pattern": ""}, "name": NAME}), "patch": {}},
                "target", "patch",
            ),
        },
    },
    "apiVersion", "kind", "resources",
)  # fmt: skip


def errors(document: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, each with its place; none where it is right."""
    kind = document.get("kind", "")
    if document.get("apiVersion") != VERSIONS.get(kind):
        return [f"apiVersion {document.get('apiVersion')!r} of kind {kind!r} is not known here"]
    return against(schema(kind), document)


def against(wanted: dict[str, Any], document: Any) -> list[str]:
    """The same with a schema."""
    found = jsonschema.Draft202012Validator(wanted).iter_errors(document)
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in found]


@cache
def schema(kind: str) -> dict[str, Any]:
    """That of a kind."""
    if kind == "PodMonitor":
        return POD_MONITOR
    path = SCHEMAS / f"{kind}.v1.json.gz"
    whole: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if VERSIONS[kind] == "ray.io/v1":
        whole = _strict(whole)
        whole["properties"]["metadata"] = METADATA
    return whole


def _strict(part: Any) -> Any:
    """A schema of a CRD in the words of JSON Schema; what lists its keys takes no other."""
    if isinstance(part, list):
        return [_strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {}
    for key, value in part.items():
        if key == "properties":
            made[key] = {name: _strict(inner) for name, inner in value.items()}
        else:
            made[key] = value if key in ("enum", "default", "required") else _strict(value)
    keys = made.get("properties", {})
    # the server fills in defaults before it looks
    made["required"] = [k for k in made.get("required", ()) if "default" not in keys.get(k, {})]
    if keys and not {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & made.keys():
        made["additionalProperties"] = False
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def rendered(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a folder with a kustomization.yaml, as `kubectl kustomize` makes them.

    Raises:
        AssertionError: a key or a target is unknown, or a patch points nowhere.
    """
    here = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert not (wrong := against(KUSTOMIZATION, here)), f"{folder}: {wrong}"
    made: list[dict[str, Any]] = []
    for name in here["resources"]:
        path = folder / name
        made += rendered(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    made = json.loads(json.dumps(made))  # what a YAML anchor shares is copied
    for generated in here.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in generated["files"]}
        metadata = {"name": generated["name"]}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for patch in here.get("patches", ()):
        wanted = patch["target"]
        hit = [m for m in made if (m["kind"], m["metadata"]["name"]) == tuple(wanted.values())]
        assert len(hit) == 1, f"{folder}: {wanted} are {len(hit)} manifests"
        for operation in yaml.safe_load(patch["patch"]):
            _patch(hit[0], **operation)
    for manifest in made:
        if "namespace" in here:
            manifest["metadata"]["namespace"] = here["namespace"]
        for container in containers(manifest):
            for image in here.get("images", ()):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return made


def _patch(manifest: dict[str, Any], *, op: str, path: str, value: Any = None) -> None:
    """One operation of RFC 6902: add, replace or remove."""
    *parts, last = path.removeprefix("/").split("/")
    target: Any = manifest
    for part in parts:
        target = target[int(part) if isinstance(target, list) else part]
    assert isinstance(target, dict), path
    assert op == "add" or (op in ("replace", "remove") and last in target), f"{op} {path}"
    if op == "remove":
        del target[last]
    else:
        target[last] = value


def pods(manifest: Any) -> Iterator[dict[str, Any]]:
    """The spec of every pod in a manifest."""
    for part in _objects(manifest):
        if "containers" in part:
            yield part


def containers(manifest: Any) -> Iterator[dict[str, Any]]:
    """Every container of every pod in a manifest."""
    for pod in pods(manifest):
        yield from pod["containers"]


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    elif not isinstance(part, list):
        return
    for inner in part.values() if isinstance(part, dict) else part:
        yield from _objects(inner)
