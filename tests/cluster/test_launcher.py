"""cluster/aws.yaml by Ray's own schema and its own preparation; no instance is asked for."""

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

FILE = Path(__file__).parents[2] / "cluster" / "aws.yaml"


@pytest.fixture(scope="module")
def schema() -> dict:
    """Ray's; to import Ray would settle how other tests' Ray begins."""
    found = importlib.util.find_spec("ray")
    return json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())


def test_ray_would_take_it(schema):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text())
    jsonschema.validate(config, schema)
    prepared = prepare_config(config)
    validate_config(prepared)
    head, gpu = (prepared["available_node_types"][name] for name in ("head", "gpu"))
    assert prepared["head_node_type"] == "head"
    assert head["resources"]["CPU"] == 0
    assert gpu["min_workers"] <= gpu["max_workers"] == prepared["max_workers"]


def test_nobody_gets_in_without_the_token():
    config = yaml.safe_load(FILE.read_text())
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("idle_timeout_minutes", "idle_timeout_minute"),
        ("min_workers: 0", "min_worker: 0"),
        ("max_workers: 8\nupscaling", 'max_workers: "8"\nupscaling'),
        ("type: aws", "typ: aws"),
        ("head_node_type", "head_node_typ"),
    ],
)
def test_a_typo_is_found(schema, right, wrong):
    text = FILE.read_text()
    assert right in text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text.replace(right, wrong, 1)), schema)
