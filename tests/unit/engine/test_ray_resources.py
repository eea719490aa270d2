"""What a job gets of a cluster; nothing here starts Ray."""

import pytest
from pydantic import ValidationError

from dawin_ray.engine import ComputeConfig, ray_resources
from dawin_ray.engine.ray_resources import ACTORS_SHARE, LEAST_CPUS, TASK_CPUS, Cluster, resources
from dawin_ray.errors import UserError


@pytest.fixture
def cluster(monkeypatch):
    """Stands for Ray's nodes; each look sees the next state, and the last one for ever."""
    for name in ("LOOK_SECONDS", "LINE_SECONDS"):
        monkeypatch.setattr(ray_resources, name, 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def of(*states: Cluster) -> None:
        left = list(states)
        monkeypatch.setattr(Cluster, "now", lambda: left.pop(0) if len(left) > 1 else left[0])

    return of


@pytest.fixture
def asked(monkeypatch) -> list:
    found = []
    monkeypatch.setattr(
        "ray.autoscaler.sdk.request_resources", lambda bundles: found.append(bundles)
    )
    return found


def test_a_head_without_cpus_gives_no_threads_and_takes_none(cluster):
    cluster(Cluster((0.0, 4.0, 4.0), 0))
    on = resources(ComputeConfig())
    assert (on.actors, on.threads, on.nodes) == (2, 4, 3)
    assert on.cpus == ACTORS_SHARE * 2


@pytest.mark.parametrize("nodes", [(1.0,), (2.0,), (2.0, 2.0), (4.0, 8.0), (0.0, 1.0)])
@pytest.mark.parametrize("actors", ["auto", 1, 2])
def test_there_is_always_room_for_readers(cluster, nodes, actors):
    cluster(Cluster(nodes, 0))
    on = resources(ComputeConfig(actors=actors))
    assert on.cpus >= ACTORS_SHARE * LEAST_CPUS
    assert sum(int(node // on.cpus) for node in nodes) >= on.actors
    for node in nodes:
        if node:  # whatever number of actors lies on it, a reader finds room too
            assert node - int(node // on.cpus) * on.cpus >= TASK_CPUS


@pytest.mark.parametrize(
    ("nodes", "actors", "threads"),
    [
        ((2.0,), "auto", 2), ((2.0,), 2, 1), ((16.0,), "auto", 8),
        ((4.0,), 3, 1), ((3.0, 3.0), 3, 2), ((8.0, 2.0), 2, 2),
    ],
)  # fmt: skip
def test_threads_share_the_cpus(cluster, nodes, actors, threads):
    cluster(Cluster(nodes, 0))
    assert resources(ComputeConfig(actors=actors)).threads == threads


@pytest.mark.parametrize(
    ("state", "compute", "words"),
    [
        (Cluster((0.0,), 0), {}, "asks for 1 model actor, half a CPU each, but no node has a CPU"),
        (Cluster((0.0,), 0), {"actors": 3}, "asks for 3 model actors, half .* no node has a CPU"),
        (Cluster((1.0,), 0), {"actors": 4}, "asks for 4 model actors.* 1 in all, .*room for 2"),
        (Cluster((8.0,), 1), {"device": "cuda", "actors": 3}, r"for 3 GPU actors.*has 1 GPU\."),
        (Cluster((0.0,), 0), {"device": "cuda"}, "for 1 GPU actor, one GPU each.*has 0 GPUs"),
        (Cluster((0.0,), 1), {"device": "cuda"}, "1 GPU actor, one CPU each besides.*has 0 CPUs"),
    ],
)
def test_what_is_missing_is_refused_at_once_and_said(cluster, state, compute, words):
    cluster(state)
    with pytest.raises(UserError, match=rf"{words}.*compute\.wait_for how long"):
        resources(ComputeConfig(**compute))


def test_what_is_to_come_is_waited_for_with_a_line_and_asked_for(cluster, asked):
    empty = Cluster((0.0,), 0)
    cluster(empty, empty, Cluster((0.0, 8.0), 1), Cluster((0.0, 8.0, 8.0), 2))
    said = []
    compute = ComputeConfig(device="cuda", actors=2, wait_for="15m")
    on = resources(compute, say=said.append)
    assert (on.device, on.actors, on.nodes) == ("cuda", 2, 3)
    assert said[0].startswith("waiting for the cluster: the job asks for 2 GPU actors, one GPU")
    assert said[0].endswith("the cluster has 0 GPUs; 0 of 900 s")
    assert "has 1 GPU;" in said[-1]
    assert asked == [[{"CPU": 1, "GPU": 1}] * 2, []]  # and is asked for no longer


def test_auto_waits_for_no_gpu_and_takes_one_that_came_with_what_was_waited_for(cluster, asked):
    """Whether any is to come nobody but the job can know."""
    for gpus, device in ((0, "cpu"), (1, "cuda")):
        cluster(Cluster((0.0,), 0), Cluster((0.0, 4.0), gpus), Cluster((0.0, 4.0, 4.0), 2))
        on = resources(ComputeConfig(wait_for="15m"), say=lambda line: None)
        assert (on.device, on.nodes) == (device, 2)
    assert asked[0] == [{"CPU": 1}]


def test_waiting_ends(cluster, asked):
    cluster(Cluster((1.0,), 0))
    with pytest.raises(UserError, match=r"has 0 GPUs, after \d+ s of compute.wait_for"):
        resources(ComputeConfig(device="cuda", wait_for="0.01s"), say=lambda line: None)
    assert asked[-1] == []


def test_no_autoscaler_is_no_error(cluster, monkeypatch):
    def broken(bundles):
        raise RuntimeError("no autoscaler")

    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", broken)
    cluster(Cluster((0.0,), 0), Cluster((2.0,), 0))
    assert resources(ComputeConfig(wait_for="1h"), say=lambda line: None).actors == 1


def test_a_cluster_without_gpus_says_that_it_stays_so(cluster):
    cluster(Cluster((2.0,), 0))
    said = []
    resources(ComputeConfig(address="auto"), say=said.append)
    assert "no node has a GPU: device auto is cpu for all of this run" in said[0]
    assert "device: cuda, and how long in compute.wait_for" in said[0]
    resources(ComputeConfig(), say=said.append)  # this machine's own Ray gets no more
    resources(ComputeConfig(address="auto", device="cpu"), say=said.append)
    assert len(said) == 1


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("90s", 90), ("1.5h", 5400)])
def test_times_are_in_seconds_minutes_or_hours(text, seconds):
    assert ComputeConfig(wait_for=text).wait_seconds == seconds
    assert ComputeConfig().wait_seconds == 0


@pytest.mark.parametrize("text", ["15", "15 m", "-1s", "m", "1d"])
def test_other_times_are_refused(text):
    with pytest.raises(ValidationError):
        ComputeConfig(wait_for=text)


BOUNDS = {"min": 2, "max": 6}


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus"),
    [((2.0, 2.0), 2, 2), ((2.0,) * 4, 4, 2), ((2.0,) * 9, 6, 2), ((0.0, 2.0), 2, 1)],
)
def test_a_range_begins_with_what_finds_room_within_it(cluster, nodes, actors, cpus):
    cluster(Cluster(nodes, 0))
    on = resources(ComputeConfig(actors=BOUNDS))
    assert (on.actors, on.most, on.bounds.min) == (actors, 6, 2)
    assert on.cpus == pytest.approx(ACTORS_SHARE * cpus)  # all that its threads use
    fixed = resources(ComputeConfig(actors=actors))
    assert (fixed.most, fixed.bounds) == (actors, None)
    assert on.readers == -(-6 * fixed.readers // actors)  # for the most actors


def test_a_range_of_gpu_actors_begins_with_the_gpus(cluster):
    for gpus, actors in ((2, 2), (4, 4), (8, 6)):
        cluster(Cluster((8.0,), gpus))
        on = resources(ComputeConfig(device="cuda", actors=BOUNDS))
        assert (on.actors, on.most, on.gpus) == (actors, 6, 1)
    cluster(Cluster((4.0,), 8))  # each needs a CPU as well
    assert resources(ComputeConfig(device="cuda", actors=BOUNDS)).actors == 4


@pytest.mark.parametrize(
    ("state", "device", "words"),
    [
        (Cluster((0.5,), 0), "cpu", "2 model actors, half a CPU each.*have room for 1"),
        (Cluster((8.0,), 1), "cuda", "asks for 2 GPU actors.*has 1 GPU"),
        (
            Cluster((1.0,), 4),
            "cuda",
            "2 GPU actors, one CPU each besides, but the cluster has 1 CPU",
        ),
    ],
)
def test_less_than_the_least_of_a_range_is_refused(cluster, state, device, words):
    cluster(state)
    with pytest.raises(UserError, match=words):
        resources(ComputeConfig(device=device, actors=BOUNDS))


def test_only_the_least_of_a_range_is_waited_for_and_asked_for(cluster, asked):
    cluster(Cluster((0.0,), 0), Cluster((0.0, 4.0), 2))
    compute = ComputeConfig(device="cuda", actors=BOUNDS, wait_for="15m")
    assert resources(compute, say=lambda line: None).actors == 2
    assert asked == [[{"CPU": 1, "GPU": 1}] * 2, []]


@pytest.mark.parametrize("wrong", [{"min": 3, "max": 2}, {"min": 0, "max": 2}, {"min": 1}, {}])
def test_other_ranges_are_refused(wrong):
    with pytest.raises(ValidationError):
        ComputeConfig(actors=wrong)
