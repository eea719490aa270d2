"""Every folder of cluster/kubernetes is one that Kubernetes, KubeRay and our command would take."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from dawin_ray import cli
from dawin_ray.config import Job, load_job
from dawin_ray.errors import UserError
from tests.cluster.manifests import containers, errors, pods, rendered

HERE = Path(__file__).parents[2] / "cluster" / "kubernetes"
FOLDERS = sorted(str(path.parent.relative_to(HERE)) for path in HERE.rglob("kustomization.yaml"))
RUN = typer.main.get_command(cli.app).commands["run"]
GPU = "nvidia.com/gpu"


def one(manifests: list[dict], *kinds: str) -> dict:
    (found,) = [manifest for manifest in manifests if manifest["kind"] in kinds]
    return found


def jobs() -> list:
    """Every manifest that runs something, with all that comes with it."""
    found = []
    for folder in FOLDERS:
        manifests = rendered(HERE / folder)
        found += [pytest.param(m, manifests, id=folder) for m in manifests if list(pods(m))]
    return found


def command_of(manifest: dict) -> list[str]:
    """The command line of what runs."""
    spec = manifest["spec"].get("jobTemplate", manifest["spec"])
    if manifest["kind"] == "CronJob":
        (container,) = containers(manifest)
        return container["args"]
    return shlex.split(spec["entrypoint"])


def job_of(manifest: dict, manifests: list[dict], tmp_path: Path) -> Job:
    """The command parses, its file is where the command looks, and every key is one."""
    program, name, *arguments = command_of(manifest)
    assert (program, name) == ("dawin-ray", "run")
    given = RUN.make_context("run", list(arguments)).params
    (mount,) = {
        mount["mountPath"]
        for container in containers(manifest)
        for mount in container.get("volumeMounts", ())
        if mount["name"] == "job"
    }
    config = one(manifests, "ConfigMap")
    folder, _, file = given["job_file"].rpartition("/")
    assert folder == mount
    (tmp_path / "job.yaml").write_text(config["data"][file])
    return load_job(str(tmp_path / "job.yaml"), given["overrides"] or ())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_valid(folder):
    manifests = rendered(HERE / folder)
    assert manifests
    assert not [error for manifest in manifests for error in errors(manifest)]
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_a_folder_is_what_kustomize_makes_of_it(folder):
    done = subprocess.run(
        ["kubectl", "kustomize", HERE / folder], capture_output=True, text=True, check=True
    )
    theirs = list(yaml.safe_load_all(done.stdout))
    assert sorted(map(json.dumps, map(ordered, theirs))) == sorted(
        map(json.dumps, map(ordered, rendered(HERE / folder)))
    )


def ordered(part):
    """With the keys in one order."""
    if isinstance(part, dict):
        return {key: ordered(part[key]) for key in sorted(part)}
    return [ordered(item) for item in part] if isinstance(part, list) else part


def test_every_manifest_is_part_of_a_folder():
    named = set()
    for folder in FOLDERS:
        here = yaml.safe_load((HERE / folder / "kustomization.yaml").read_text())
        files = [f for made in here.get("configMapGenerator", ()) for f in made["files"]]
        named |= {(HERE / folder / name).resolve() for name in [*here["resources"], *files]}
    others = {p for p in HERE.rglob("*.yaml") if p.name != "kustomization.yaml"} - named
    assert not others


@pytest.mark.parametrize(
    ("file", "right", "wrong", "place"),
    [
        ("base/rayjob.yaml", "backoffLimit", "backofLimit", "backofLimit"),
        ("base/rayjob.yaml", "resources:", "resourcs:", "resourcs"),
        ("base/rayjob.yaml", 'num-cpus: "0"', "num-cpus: 0", "num-cpus"),
        ("base/rayjob.yaml", "mode: token", "mode: tokens", "authOptions.mode"),
        ("base/rayjob.yaml", "ray.io/v1", "ray.io/v2", "apiVersion"),
        ("base/rayjob.yaml", "restartPolicy: Never # a", "restartPolice: Never", "restartPolice"),
        ("daily-ray/raycronjob.yaml", "jobTemplate:", "jobTemplat:", "jobTemplat"),
        ("daily-ray/raycronjob.yaml", "maxReplicas: 8", "maxReplicas: eight", "maxReplicas"),
        ("daily/cronjob.yaml", "podFailurePolicy", "podFailurPolicy", "podFailurPolicy"),
        ("daily/cronjob.yaml", "action: FailJob", "acton: FailJob", "acton"),
        ("daily/cronjob.yaml", ', status: "True"', "", "status"),
        ("daily/cronjob.yaml", "emptyDir: {medium", "emptyDir: {mediun", "mediun"),
        ("account/serviceaccount.yaml", "automount", "autoMount", "autoMount"),
        ("monitoring/podmonitor.yaml", "podMetricsEndpoints", "podMetricEndpoints", "podMetric"),
        ("monitoring/podmonitor.yaml", "interval: 10s", "interval: 10", "interval"),
    ],
)  # fmt: skip
def test_a_typo_in_a_manifest_is_found(file, right, wrong, place):
    text = (HERE / file).read_text()
    assert right in text
    found = errors(yaml.safe_load(text.replace(right, wrong, 1)))
    assert place in " ".join(found)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("resources:", "resource:"),
        ("op: add", "op: append"),
        ("/spec/rayClusterSpec/headGroupSpec", "/spec/rayClusterSpec/headSpec"),
        ("kind: RayJob", "kind: RayJobs"),
        ("target:", "targets:"),
    ],
)
def test_a_typo_in_an_overlay_is_found(right, wrong, tmp_path):
    shutil.copytree(HERE, tmp_path / "k")
    path = tmp_path / "k" / "overlays" / "secret" / "kustomization.yaml"
    path.write_text(path.read_text().replace(right, wrong, 1))
    with pytest.raises((AssertionError, KeyError)):
        rendered(path.parent)


@pytest.mark.parametrize(("manifest", "manifests"), jobs())
def test_what_it_runs_is_a_job_of_ours(manifest, manifests, tmp_path):
    job = job_of(manifest, manifests, tmp_path)
    assert (job.mode == "append") == ("daily" in manifest["metadata"]["name"])
    assert job.saved_fit or "--fail-on-drift" not in command_of(manifest)
    places = [job.run_dir, *(d.path for d in job.datasets), *(e.checkpoint for e in job.experts)]
    assert all(place.startswith("s3://") for place in places)
    wants = [c for c in containers(manifest) if GPU in c["resources"]["limits"]]
    assert bool(wants) == (job.compute.device == "cuda")


@pytest.mark.parametrize(("manifest", "manifests"), jobs())
def test_what_a_pod_names_is_there(manifest, manifests):
    config, account = one(manifests, "ConfigMap"), one(manifests, "ServiceAccount")
    for pod in pods(manifest):
        assert pod.get("serviceAccountName", "dawin-ray") == account["metadata"]["name"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        mounted = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", ())}
        assert mounted == volumes.keys()
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] == config["metadata"]["name"]


@pytest.mark.parametrize(("manifest", "manifests"), jobs())
def test_no_pod_may_more_than_it_must(manifest, manifests):
    for pod in pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000  # that of cluster/Dockerfile
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["restartPolicy"] == "Never"
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert container["image"] == "dawin-ray:0.1.0"
        gpus = any(GPU in c["resources"]["limits"] for c in pod["containers"])
        tolerated = {toleration["key"] for toleration in pod.get("tolerations", ())}
        assert tolerated == ({GPU} if gpus else set())


@pytest.mark.parametrize(
    ("manifest", "manifests"), [p for p in jobs() if p.values[0]["kind"].startswith("Ray")]
)
def test_a_ray_cluster_wants_its_token_is_resumed_and_goes(manifest, manifests, tmp_path):
    spec = manifest["spec"].get("jobTemplate", manifest["spec"])
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = (HERE.parent / "constraints.txt").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in pinned
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    assert spec["ttlSecondsAfterFinished"] > 0
    assert "--fail-on-drift" not in spec["entrypoint"]  # it would be tried again for nothing
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    asks = cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
    assert asks == cluster["enableInTreeAutoscaling"] == ("autoscalerOptions" in cluster)
    compute = job_of(manifest, manifests, tmp_path).compute
    if asks and compute.device == "cuda":
        assert 1 <= compute.actors <= group["maxReplicas"]
        assert compute.wait_seconds
    else:  # one that nobody asks for must be there
        assert group["minReplicas"] == group["replicas"] > 0
        assert compute.actors in ("auto", group["replicas"])
    queued = "kueue.x-k8s.io/queue-name" in manifest["metadata"].get("labels", {})
    assert queued == spec.get("suspend", False) == (not asks)


def test_the_daily_pod_is_not_tried_again_where_it_would_not_help():
    job = one(rendered(HERE / "daily"), "CronJob")["spec"]["jobTemplate"]["spec"]
    ignored, fails = job["podFailurePolicy"]["rules"]
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert fails["action"] == "FailJob"
    assert fails["onExitCodes"]["operator"] == "In"
    assert fails["onExitCodes"]["values"] == [UserError.exit_code, cli.EXIT_DRIFT, cli.EXIT_DOUBT]
    assert job["backoffLimit"] > 0
    (pod,) = pods(job)
    assert fails["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    shared = next(v for v in pod["volumes"] if v["name"] == "shm")
    assert shared["emptyDir"]["medium"] == "Memory"


def test_keys_come_from_a_secret_where_asked():
    manifests = rendered(HERE / "overlays" / "secret")
    cluster = one(manifests, "RayJob")["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "dawin-ray-s3"}}]
    assert "annotations" not in one(manifests, "ServiceAccount")["metadata"]


def test_no_credential_and_no_registry_stands_in_a_manifest():
    for path in HERE.rglob("*.yaml"):
        text = path.read_text()
        assert not re.search(r"(?i)(secret_access_key|password|auth_token)(: *|=)\S", text), path
        assert not re.search(r"(image|newName): [\w.-]+\.\w+/", text), path
