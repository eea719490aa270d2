"""The audit: every figure once more by pandas, scikit-learn and statsmodels; and the page."""

import base64
import html.parser
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from dawin_ray import tables
from dawin_ray.cli import app
from dawin_ray.config import load_job
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.job.prepare import prepare
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.runs.directory import RunDirectory
from tests.conftest import CLASSES, make_images, write_folder, write_tar

IMAGES = 72
BASELINES = {
    "static": [0, 0.25, 0.5, 0.75, 1], "exact": True, "oracle": True, "random": True,
    "coefficients": [{"metric": "margin"}],
    "fits": [{"clusters": 1}, {"offset_adjustment": True}, {"clusters": 4}],
}  # fmt: skip
EXACT = 1e-9


@pytest.fixture(scope="module")
def audited(small, tmp_path_factory) -> Path:
    """A run over three labelled sets and one that has a label on every second sample."""
    root = tmp_path_factory.mktemp("audit")
    datasets = []
    for i, name in enumerate(("inside", "one", "two", "half")):
        images, labels = make_images(IMAGES, seed=i), [j % CLASSES for j in range(IMAGES)]
        if name == "half":
            write_tar(root / name / "a.tar", images[::2], labels[::2])
            write_tar(root / name / "b.tar", images[1::2], None)
        else:
            write_folder(root / name, images, sorted(labels))
        datasets.append({"name": name, "path": str(root / name)})
    job = small.job_file(
        root / "job.yaml", root / "run", datasets, baselines=BASELINES, in_distribution="inside"
    )
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    assert str(root / "run" / "report.html") in result.output
    return root / "run"


@pytest.fixture(scope="module")
def found(audited) -> dict:
    return json.loads((audited / "audit.json").read_text())


def rows_of(run_dir: Path, dataset: str, found: dict) -> tuple[pd.DataFrame, dict]:
    """Predictions of a data set, and by method its prediction, confidence, log loss and Brier."""
    predictions = pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")
    experts = pd.read_parquet(run_dir / "experts" / f"dataset={dataset}")
    assert (predictions["sample_id"] == experts["sample_id"]).all()
    by_method = {}
    for rows, prefix, fit in ((experts, "baseline", False), (predictions, "fit", True)):
        names = [m["name"] for m in found["methods"] if (m["kind"] == "fit") == fit]
        for q, name in enumerate(names):
            by_method[name] = pd.DataFrame(
                {
                    column: np.stack(rows[f"{prefix}_{column}"])[:, q].astype(np.float64)
                    for column in ("prediction", "confidence", "nll", "brier")
                }
            )
    by_method["dawin"] = predictions[["prediction", "confidence", "nll", "brier"]].astype(float)
    return predictions, by_method


def close(one, other) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=EXACT)


def test_scores(audited, found):
    for row in found["datasets"]:
        predictions, by_method = rows_of(audited, row["dataset"], found)
        known = predictions["label"].notna()
        labels = predictions["label"][known].astype(int)
        assert (row["rows"], row["labelled"]) == (len(predictions), known.sum())
        assert row["labelled"] == (IMAGES // 2 if row["dataset"] == "half" else IMAGES)
        for name, table in by_method.items():
            score, table = row["methods"][name], table[known]
            right = (table["prediction"] == labels).to_numpy()
            n = len(labels)
            close(score["accuracy"]["value"], accuracy_score(labels, table["prediction"]))
            interval = proportion_confint(right.sum(), n, method="wilson")
            close([score["accuracy"][k] for k in ("low", "high")], interval)
            for column in ("nll", "brier"):
                close(score[column]["value"], table[column].mean())
                sem = table[column].std() / np.sqrt(n)
                expected = stats.norm.interval(0.95, table[column].mean(), sem)
                close([score[column][k] for k in ("low", "high")], expected)
            bins = np.ceil(table["confidence"] * 15).clip(1, 15)
            gaps = pd.DataFrame({"c": table["confidence"], "r": right}).groupby(bins).sum()
            close(score["ece"], (gaps["c"] - gaps["r"]).abs().sum() / n)
            sizes = bins.value_counts().sort_index()
            assert [b["n"] for b in score["reliability"]] == sizes.tolist()
            close([b["confidence"] for b in score["reliability"]], gaps["c"] / sizes)
            close([b["accuracy"] for b in score["reliability"]], gaps["r"] / sizes)
            ordered = pd.DataFrame({"c": table["confidence"], "wrong": ~right})
            ordered["wrong"] = ordered.groupby("c")["wrong"].transform("mean")
            wrong = ordered.sort_values("c", ascending=False)["wrong"].to_numpy()
            risks = np.cumsum(wrong) / np.arange(1, n + 1)
            close(score["aurc"], risks.mean())
            for point in score["risk_coverage"]:
                close(point["risk"], risks[round(point["coverage"] * n) - 1])
            for coverage, value in score["accuracy_at_coverage"].items():
                close(value, 1 - risks[int(np.ceil(float(coverage) * n)) - 1])


def test_log_loss_and_confidence_are_of_the_same_probabilities(audited, found):
    """scikit-learn's log loss of the stored five most probable classes of six."""
    predictions, _ = rows_of(audited, "one", found)
    p = np.zeros((len(predictions), CLASSES))
    for i, row in enumerate(predictions.itertuples()):
        p[i, row.top_classes] = row.top_probabilities
        p[i, [c for c in range(CLASSES) if c not in row.top_classes]] = 1 - sum(
            row.top_probabilities
        )
    dawin = next(r for r in found["datasets"] if r["dataset"] == "one")["methods"]["dawin"]
    p = p.clip(1e-12)
    expected = log_loss(predictions["label"], p / p.sum(axis=1, keepdims=True))
    # float32 probabilities, of which the sixth is what is left of 1
    assert dawin["nll"]["value"] == pytest.approx(expected, rel=1e-3)


def test_differences_and_their_tests(audited, found):
    rivals = [m["name"] for m in found["methods"] if not m["uses_labels"]]
    assert "oracle" not in rivals
    assert len(rivals) == len(found["methods"]) - 1
    p_values, reported, of_expert = [], [], []
    for row in found["datasets"]:
        predictions, by_method = rows_of(audited, row["dataset"], found)
        known = predictions["label"].notna()
        labels = predictions["label"][known]
        ours = by_method["dawin"]["prediction"][known] == labels
        for name in (m["name"] for m in found["methods"]):
            theirs = by_method[name]["prediction"][known] == labels
            difference = row["differences"][name]
            table = pd.crosstab(ours, theirs).reindex(
                index=[False, True], columns=[False, True], fill_value=0
            )  # fmt: skip
            better, worse = table.loc[True, False], table.loc[False, True]
            assert (difference["better"], difference["worse"]) == (better, worse)
            close(difference["value"], ours.mean() - theirs.mean())
            n = len(ours)
            shares = [better / n, worse / n, (n - better - worse) / n]
            drawn = np.random.default_rng(0).multinomial(n, shares, size=10_000)
            means = (drawn[:, 0] - drawn[:, 1]) / n
            close([difference["low"], difference["high"]], np.quantile(means, [0.025, 0.975]))
            if name in rivals:
                expected = mcnemar(table.to_numpy(), exact=True).pvalue if better + worse else 1.0
                close(difference["p"], min(expected, 1.0))
                p_values.append(difference["p"])
                of_expert.append(name in found["experts"])
                reported.append(difference)
            else:
                assert difference["p"] is None
    for family in (True, False):  # the experts, and apart from them the other methods
        members = [i for i, expert in enumerate(of_expert) if expert == family]
        adjusted = multipletests([p_values[i] for i in members], method="holm")[1]
        close([reported[i]["p_holm"] for i in members], adjusted)
    for difference in reported:
        wanted = "no significant difference"
        if difference["p_holm"] < 0.05:
            wanted = "better" if difference["value"] > 0 else "worse"
        assert difference["says"] == wanted


def test_the_suite_is_the_mean_of_the_shifts(audited, found):
    suite = found["suite"]
    assert suite["datasets"] == ["one", "two", "half"]
    rows = [r for r in found["datasets"] if r["dataset"] != "inside"]
    for name in [*(m["name"] for m in found["methods"]), "dawin"]:
        values = [r["methods"][name]["accuracy"]["value"] for r in rows]
        close(suite["accuracy"][name]["value"], np.mean(values))
        draw = np.random.default_rng(0)
        total = sum(
            draw.multinomial(r["labelled"], [v, 0, 1 - v], size=10_000)[:, 0] / r["labelled"] / 3
            for r, v in zip(rows, values, strict=True)
        )
        interval = [suite["accuracy"][name][k] for k in ("low", "high")]
        np.testing.assert_allclose(interval, np.quantile(total, [0.025, 0.975]), atol=1e-9)
    for name, difference in suite["differences"].items():
        close(difference["value"], np.mean([r["differences"][name]["value"] for r in rows]))
        outside = difference["low"] > 0 or difference["high"] < 0
        assert (difference["says"] != "no significant difference") == outside


def test_what_needs_no_label(audited, found):
    for row in found["datasets"]:
        predictions, by_method = rows_of(audited, row["dataset"], found)
        coefficient = np.stack(predictions["coefficient"]).astype(np.float64)
        entropy = np.stack(predictions["expert_entropy"]).astype(np.float64)
        experts = np.stack(predictions["expert_prediction"])
        for i, name in enumerate(found["experts"]):
            close(row["coefficient"][name]["mean"], coefficient[:, i].mean())
            histogram = np.histogram(coefficient[:, i], 40, (0, 1))[0]
            assert row["coefficient"][name]["histogram"] == histogram.tolist()
            quantiles = pd.Series(entropy[:, i]).quantile([0.05, 0.25, 0.5, 0.75, 0.95])
            close(row["entropy"][name]["quantiles"], quantiles)
            assert (by_method[name]["prediction"] == experts[:, i]).all()
            same = (predictions["prediction"] == experts[:, i]).mean()
            close(row["agreement"]["dawin_with"][name], same)
            close(row["confidence"][name], by_method[name]["confidence"].mean())
        close(row["agreement"]["all_agree"], (experts[:, 0] == experts[:, 1]).mean())
        assert row["away"]["from"] == "inside"
        inside = rows_of(audited, "inside", found)[0]
        for column, key in (("coefficient", "coefficient"), ("expert_entropy", "entropy")):
            for i, name in enumerate(found["experts"]):
                a, b = (np.sort(np.stack(t[column])[:, i]) for t in (predictions, inside))
                distance = np.abs(a.astype(float) - b).mean()  # as many samples in each
                close(row["away"][key][name], distance)
        sizes = predictions["cluster"].value_counts()
        assert {c["cluster"]: c["size"] for c in row["clusters"] if c["size"]} == sizes.to_dict()
        for cluster in row["clusters"]:
            members = predictions[predictions["cluster"] == cluster["cluster"]]
            if len(members):
                means = np.stack(members["coefficient"]).astype(np.float64).mean(axis=0)
                close(cluster["mean_coefficient"], means)
            known = members[members["label"].notna()]
            if len(known):
                right = known["prediction"] == known["label"]
                close(cluster["accuracy"]["value"], right.mean())
                interval = proportion_confint(right.sum(), len(right), method="wilson")
                close([cluster["accuracy"][k] for k in ("low", "high")], interval)


def test_cells_classes_and_correlations(audited, found):
    for row in found["datasets"]:
        predictions, by_method = rows_of(audited, row["dataset"], found)
        known = predictions["label"].notna()
        labels = predictions["label"][known].astype(int)
        right = {k: v["prediction"][known] == labels for k, v in by_method.items()}
        one, other = (right[name] for name in found["experts"])
        masks = [one & other, ~one & ~other, one & ~other, ~one & other]
        assert [c["n"] for c in row["cells"]] == [m.sum() for m in masks]
        assert [c["dawin_right"] for c in row["cells"]] == [right["dawin"][m].sum() for m in masks]
        assert right[row["best_expert"]].sum() == max(one.sum(), other.sum())
        for i, name in enumerate(found["experts"]):
            entropy = np.stack(predictions["expert_entropy"][known])[:, i]
            expected = stats.spearmanr(entropy, by_method[name]["nll"][known]).statistic
            close(row["entropy_against_loss"][name], expected)
        for entry in (*row["classes"]["gains"], *row["classes"]["losses"]):
            members = labels == entry["class"]
            assert entry["n"] == members.sum()
            close(entry["accuracy"], right["dawin"][members].mean())
            close(entry["best_expert"], right[row["best_expert"]][members].mean())
            shrunk = [
                (r[members].sum() + 10 * r.mean()) / (members.sum() + 10)
                for r in (right["dawin"], right[row["best_expert"]])
            ]
            close(entry["shrunk_gain"], shrunk[0] - shrunk[1])


class _Page(html.parser.HTMLParser):
    """What a browser would fetch or run, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "action", "poster"):
                self.fetched.append(value)

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_asks_for_nothing_and_begins_with_the_answer(audited, found):
    text = (audited / "report.html").read_text()
    page = _Page(text)
    outside = [a for a in page.fetched if not a.startswith(("#", "data:"))]
    assert not outside
    assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    body = text[text.index("<body>") :]
    assert body.index(found["words"][0][:40]) < body.index(found["words"][1][:40])
    assert body.index(found["words"][1][:40]) < body.index("<table>")
    drawn = text.count('<svg role="img"')
    assert drawn == 2 + 4 * len(found["datasets"])  # coefficients, calibration, risk, classes
    assert "currentColor" in text


def test_the_report_is_made_again_from_parquet_alone(audited):
    before = {p.name: p.read_bytes() for p in audited.iterdir() if p.is_file()}
    for name in ("audit.json", "report.html"):
        (audited / name).unlink()
    result = CliRunner().invoke(app, ["report", str(audited)])
    assert result.exit_code == 0, result.output
    assert {p.name: p.read_bytes() for p in audited.iterdir() if p.is_file()} == before
    result = CliRunner().invoke(app, ["verify", str(audited)])
    assert result.exit_code == 0, result.output


def test_thumbnails_are_of_the_samples_they_name(audited):
    result = CliRunner().invoke(app, ["report", str(audited), "--thumbnails", "2"])
    assert result.exit_code == 0, result.output
    text = (audited / "report.html").read_text()
    images = re.findall(
        r'<img src="data:image/jpeg;base64,([^"]+)".*?<span class="id">([^<]+)</span>', text
    )
    assert len(images) >= 8
    encoded, sample_id = images[0]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as shown:
        with Image.open(audited.parent / "inside" / sample_id) as original:
            small = original.convert("RGB")
            small.thumbnail((96, 96))
        difference = np.abs(np.asarray(shown, float) - np.asarray(small, float))
        assert difference.mean() < 10  # JPEG's
    CliRunner().invoke(app, ["report", str(audited)])
    assert "<img" not in (audited / "report.html").read_text()


def test_a_run_costs_what_its_plan_says(small, audited):
    """Forwards that the stage makes for a sample, counted, against the plan's."""
    plan = CliRunner().invoke(app, ["plan", str(audited.parent / "job.yaml")])
    assert plan.exit_code == 0, plan.output
    text = " ".join(plan.output.split())
    images = 4 * IMAGES
    prepared = prepare(load_job(str(audited.parent / "job.yaml")))
    stage = ScoreExperts(prepared.spec)
    counted = {"plain": 0, "exact": 0}

    def counting(kind, model):
        def forward(pixels, *arguments):
            counted[kind] += len(pixels)
            return model(pixels, *arguments)

        return forward

    stage.models = [counting("plain", model) for model in stage.models]
    stage.static = {name: counting("plain", model) for name, model in stage.static.items()}
    stage.samplewise = counting("exact", stage.samplewise)
    decode = DecodeImages(prepared.preprocessing, 16, prepared.spec.classes)
    decoded = 0
    for shards in prepared.shards.values():
        for shard in shards:
            for chunk in decode(shard):
                decoded += len(chunk.sample_ids)
                stage(chunk)
    assert decoded == images
    assert f"{counted['plain']:,} forwards" in text
    assert f"{counted['exact']:,} exact forwards of 6 baselines" in text
    for price in ("selection 0,", "static_0.25 1,", "oracle about 2,", "dawin_K4 1 "):
        assert price in text
    assert f"pass 2 {4 * images:,} forwards" in text  # of DaWin and three other fits


def test_other_fits_are_the_runs_that_they_stand_for(small, audited, tmp_path):
    """K = 4, and the offset: the same predictions as jobs with these settings."""
    datasets = [{"name": "one", "path": str(audited.parent / "one")}]
    rows, by_method = rows_of(audited, "one", json.loads((audited / "audit.json").read_text()))
    for name, sections in (
        ("dawin_K4", {"mixture": {"clusters": 4}}),
        ("dawin_offset", {"coefficient": {"offset_adjustment": True}}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        job = small.job_file(folder / "job.yaml", folder / "run", datasets, **sections)
        assert CliRunner().invoke(app, ["run", job]).exit_code == 0
        alone = pd.read_parquet(folder / "run" / "predictions" / "dataset=one")
        assert (alone["sample_id"] == rows["sample_id"]).all()
        assert (alone["prediction"] == by_method[name]["prediction"]).all()
        np.testing.assert_allclose(alone["nll"], by_method[name]["nll"], atol=1e-5)


def test_csv_tables_hold_the_same(audited, found):
    scores = pd.read_csv(audited / "csv" / "scores.csv").set_index(["dataset", "method"])
    differences = pd.read_csv(audited / "csv" / "differences.csv")
    assert len(scores) == len(found["datasets"]) * (len(found["methods"]) + 1)
    assert len(differences) == len(found["datasets"]) * len(found["methods"])
    for row in found["datasets"]:
        for name, score in row["methods"].items():
            assert scores.loc[(row["dataset"], name), "aurc"] == pytest.approx(score["aurc"])


def test_a_suite_without_labels_has_a_report(small, tmp_path):
    datasets = []
    for i in range(8):
        write_tar(tmp_path / f"set{i}" / "a.tar", make_images(20, seed=i), None)
        datasets.append({"name": f"set{i}", "path": str(tmp_path / f"set{i}")})
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets)
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert found["suite"] is None
    assert found["words"][0].startswith("Not shown: no data set has labels")
    text = " ".join(_Page((tmp_path / "run" / "report.html").read_text()).text)
    for expected in ("set7", "experts agree", "median entropy", "Who agrees"):
        assert expected in text
    assert "McNemar" not in " ".join(found["words"])


def test_runs_are_compared_pair_by_pair(small, audited, tmp_path):
    """The same job with another second expert: only what both have scored is compared."""
    datasets = [{"name": "one", "path": str(audited.parent / "one")}]
    experts = [{"name": f"expert_{i}", "checkpoint": small.checkpoints[i]} for i in (0, 2)]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets, experts=experts)
    assert CliRunner().invoke(app, ["run", job]).exit_code == 0
    out = tmp_path / "compared.json"
    arguments = ["report", str(tmp_path / "run"), str(audited), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    row, *others = json.loads(out.read_text())
    assert {other["says"] for other in others} == {f"not in {tmp_path / 'run'}"}
    a, b = (
        pd.read_parquet(run / "predictions" / "dataset=one").set_index("sample_id")
        for run in (tmp_path / "run", audited)
    )
    right_a, right_b = a["prediction"] == a["label"], b["prediction"] == b["label"]
    assert row["better"] == (right_b & ~right_a).sum()
    assert row["worse"] == (right_a & ~right_b).sum()
    close(row["changed"], (a["prediction"] != b["prediction"]).mean())
    assert f"one, {audited}" in result.output


def test_a_report_of_no_run_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "no run directory" in result.output


BIG = """
import resource, sys, time
from dawin_ray.passes import ScoreExperts
from dawin_ray.report import write_page
from dawin_ray.runs import RunDirectory
begin = time.perf_counter()
write_page(RunDirectory(sys.argv[1]))
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_million_rows_take_less_than_two_gigabytes(small, audited, tmp_path):
    """Synthetic Parquet in the layout of the run above, 1,000,000 rows of one data set."""
    rows, experts = 1_000_000, 2
    draw = np.random.default_rng(0)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("job.yaml", "classes.json", "mixture.json", "report.json"):
        text = (audited / name).read_text()
        if name == "job.yaml":
            text = text.replace("in_distribution: inside", "in_distribution: null")
            text = re.sub(
                r"(?s)datasets:\n.*?(?=\n[a-z])", "datasets:\n- {name: one, path: x}", text
            )
        (run_dir / name).write_text(text)
    fits = len(BASELINES["fits"])
    methods = len(json.loads((audited / "audit.json").read_text())["methods"]) - fits

    def chunks(kind):
        for start in range(0, rows, 100_000):
            n = 100_000
            columns = {
                "sample_id": [f"shard-{start:09d}.tar/{i:09d}" for i in range(n)],
                "label": draw.integers(0, CLASSES, n),
            }
            if kind == "experts":
                columns |= {
                    "baseline_prediction": draw.integers(0, CLASSES, (n, methods), np.int32),
                    "baseline_confidence": draw.random((n, methods), np.float32),
                    "baseline_nll": draw.random((n, methods), np.float32),
                    "baseline_brier": draw.random((n, methods), np.float32),
                }
                yield tables.table(tables.EXPERTS, columns)
                continue
            last = draw.random((n, 1), np.float32)
            columns |= {
                "prediction": draw.integers(0, CLASSES, n).astype(np.int32),
                "confidence": draw.random(n, np.float32),
                "nll": draw.random(n, np.float32),
                "brier": draw.random(n, np.float32),
                "coefficient": np.concatenate([1 - last, last], axis=1),
                "cluster": draw.integers(0, 2, n).astype(np.int32),
                "expert_prediction": draw.integers(0, CLASSES, (n, experts), np.int32),
                "expert_entropy": draw.random((n, experts), np.float32),
                "fit_prediction": draw.integers(0, CLASSES, (n, fits), np.int32),
                "fit_confidence": draw.random((n, fits), np.float32),
                "fit_nll": draw.random((n, fits), np.float32),
                "fit_brier": draw.random((n, fits), np.float32),
            }
            yield tables.table(tables.PREDICTIONS, columns)

    run = RunDirectory(str(run_dir))
    run.parts.write(("experts", "dataset=one"), tables.EXPERTS, chunks("experts"))
    run.parts.write(("predictions", "dataset=one"), tables.PREDICTIONS, chunks("predictions"))
    run.parts.write(("rejects",), tables.REJECTS, [])
    done = subprocess.run(
        [sys.executable, "-c", BIG, str(run_dir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds, peak = map(float, done.stdout.split())
    print(f"{rows:,} rows, {methods} methods: {seconds:.1f} s, peak {peak:.2f} GiB")
    assert peak < 2
    assert json.loads((run_dir / "audit.json").read_text())["datasets"][0]["rows"] == rows
