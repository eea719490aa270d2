"""The list of what is counted, and that dashboard, alerts and text know nothing else."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import yaml

from dawin_ray import metrics
from dawin_ray.attempts import Attempts
from dawin_ray.job.json_log import PROGRESS_SECONDS, VERSION
from dawin_ray.metrics import METRICS, drift_figures, label, run_label
from dawin_ray.passes.stages import LABELS
from tests.readme import DOCS, ROOT, rows

FOLDER = ROOT / "cluster"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
ALERTS = FOLDER / "prometheus" / "alerts.yaml"
TEXT = DOCS["cluster/prometheus/README.md"]
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PROMTOOL = shutil.which("promtool")


def panels() -> list[dict]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Every query of the dashboard by panel and letter, its variables filled as Grafana does."""
    filled = {"$__rate_interval": "1m", "$__range": "1h", "$run": ".*"}
    found = {}
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in filled.items():
                query = query.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def unknown(expression: str) -> list[str]:
    """Metrics and labels that an expression names and that are none of ours."""
    names = set(re.findall(r"\bray_(dawin_ray_\w+)", expression))
    labels = {key for name in names & METRICS.keys() for key in METRICS[name].labels}
    labels |= {"WorkerId"}  # Ray's own: which driver
    used = {
        key.strip()
        for keys in re.findall(r"\b(?:by|on|ignoring|without) ?\(([^)]*)\)", expression)
        for key in keys.split(",")
        if key.strip()
    }
    used |= set(re.findall(r"(\w+)=~?\"", expression))
    return sorted(names - METRICS.keys()) + sorted(used - labels)


def test_names_and_labels_are_those_that_prometheus_takes():
    for name, metric in METRICS.items():
        assert name == metric.name
        assert re.fullmatch(r"dawin_ray_[a-z_]+", name)
        assert (metric.kind == "counter") == name.endswith("_total")
        assert all(re.fullmatch(r"[a-z]+", key) for key in metric.labels)
        assert metric.text.endswith(".")


def test_every_pass_is_a_phase_and_every_kind_of_work_is_told():
    assert set(metrics.PASSES) == LABELS.keys() <= set(metrics.PHASES)
    sources = "".join(path.read_text() for path in (ROOT / "dawin_ray").rglob("*.py"))
    told = re.findall(r'(?m)^ +again="(\w+)",$', sources)
    assert set(told) == set(metrics.WORK)
    assert len(told) == len(re.findall(r"tries\.tell\(", sources))
    entered = re.findall(r'\.enter\("(\w+)"\)', sources)
    assert set(entered) | set(metrics.PASSES) <= set(metrics.PHASES)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a", "a"), ("é", "\\xe9"), ("a\nb", "a\\nb"), ("a\x1b[2J", "a\\x1b[2J"),
     ("x" * 999, "x" * 100), ("文", "\\u6587"), ("a\udcff", "a\\xff")],
)  # fmt: skip
def test_a_label_is_a_line_of_ascii_and_not_long(name, shown):
    assert label(name) == shown


@pytest.mark.parametrize(
    ("run_dir", "shown"),
    [("s3://bucket/runs/daily/", "daily"), ("runs/demo/run", "run"), ("/", "run"),
     ("s3://user:secret@host/a/b", "b")],
)  # fmt: skip
def test_of_a_run_directory_only_its_last_name_is_told(run_dir, shown):
    assert run_label(run_dir) == shown


def test_drift_has_a_value_a_threshold_and_an_alarm_for_each_statistic():
    statistic = SimpleNamespace(
        kind="psi", quantity=None, of="expert é", value=0.5, threshold=0.2, alarm=True
    )
    found = drift_figures({"set": SimpleNamespace(statistics=(statistic,))})
    key = ("set", "psi", "", "expert \\xe9")
    assert found == {
        "dawin_ray_drift_value": {key: 0.5},
        "dawin_ray_drift_threshold": {key: 0.2},
        "dawin_ray_drift_alarm": {key: 1.0},
    }
    assert found.keys() <= METRICS.keys()


def test_retries_are_counted_once_and_by_work():
    attempts = Attempts()
    for line in (
        "a reader died (1st time)",
        "a reader died (1st time)",
        "a reader died (2nd time)",
    ):
        attempts.tell(line, "reading")
    attempts.tell("something else")
    assert attempts.retries() == {"reading": 2}
    assert len(attempts.told()) == 3


# The dashboard


def test_every_panel_asks_for_what_is_counted():
    assert {name: unknown(query) for name, query in queries().items() if unknown(query)} == {}


def test_a_query_for_something_else_would_be_noticed():
    assert unknown("rate(ray_dawin_ray_rows[1m])") == ["dawin_ray_rows"]
    assert unknown("sum by (pas) (ray_dawin_ray_rows_total)") == ["pas"]
    assert unknown('ray_dawin_ray_rows_total{phase="fit"}') == ["phase"]


def test_every_metric_is_in_a_panel():
    text = " ".join(queries().values())
    assert [name for name in METRICS if not re.search(rf"\bray_{name}\b", text)] == []


def test_panels_have_titles_units_and_places_of_their_own():
    places = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places
        assert max(x for x, _ in cells) < 24
        places |= cells
    assert len({panel["title"] for panel in panels()}) == len(panels())
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_the_dashboard_has_no_data_source_of_ours():
    assert DASHBOARD["id"] is None
    names = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert names["datasource"]["query"] == "prometheus"
    assert unknown(names["run"]["query"]) == []
    assert "://" not in json.dumps(DASHBOARD)


# The alerts


def test_every_alert_is_of_what_is_counted():
    assert {rule["alert"]: unknown(rule["expr"]) for rule in RULES if unknown(rule["expr"])} == {}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} <= rule["annotations"].keys()
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= set(re.search(r"by \(([\w, ]+)\)", rule["expr"])[1].split(", "))


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool")
def test_the_rules_are_sound():
    result = subprocess.run([PROMTOOL, "check", "rules", ALERTS], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(RULES)} rules found" in result.stdout


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool")
def test_a_rule_that_is_broken_would_be_noticed(tmp_path):
    broken = tmp_path / "alerts.yaml"
    broken.write_text(ALERTS.read_text().replace("max by (run", "max bye (run", 1))
    assert broken.read_text() != ALERTS.read_text()
    assert subprocess.run([PROMTOOL, "check", "rules", broken], capture_output=True).returncode


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool")
def test_the_alerts_fire_when_they_should_and_only_then():
    cases = FOLDER / "prometheus" / "alerts_test.yaml"
    result = subprocess.run([PROMTOOL, "test", "rules", cases], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    tested = cases.read_text()
    for rule in RULES:
        assert f"alertname: {rule['alert']}" in tested, rule["alert"]


# The text


def test_the_table_is_the_list():
    shown = {
        re.search(r"`(\w+)`", name)[1]: (*re.findall(r"`(\w+)`", labels), text)
        for name, labels, text in rows("| metric | labels |", TEXT)
    }
    assert shown == {
        name.removeprefix("dawin_ray_"): (*metric.labels, metric.text)
        for name, metric in METRICS.items()
    }


def test_phases_bounds_and_alerts_are_those_that_are_shown():
    said = " ".join(TEXT.split())
    assert ", ".join(f"`{phase}`" for phase in metrics.PHASES) in said
    assert f"at most {metrics.MOST_VALUES} values" in said
    assert f"every {PROGRESS_SECONDS:g} s" in said
    assert f'"version": {VERSION}' in said
    assert {rule["alert"] for rule in RULES} == set(re.findall(r"\| `(Dawin\w+)` \|", TEXT))
