"""The page of a directory that grows, from the reports of its batches."""

import html
import re
from dataclasses import replace

from dawin_ray.report.doubts import Doubt
from dawin_ray.report.overview import drift_table, overview_of, overview_words
from tests.unit.report.made import drift_of, report_record


def batches(experts: list[str], count: int = 3):
    return [
        report_record(
            experts,
            {"set": True},
            f"/runs/grown/batches/2026-11-2{day}T0600",
            batch=f"2026-11-2{day}T0600",
            drift={"set": drift_of(experts, alarm=day == count - 1)},
        )
        for day in range(count)
    ]


def test_the_weight_of_every_expert_is_in_the_table(experts):
    reports = batches(experts)
    page = overview_of(reports, "/runs/grown", overview_words(reports))
    headings = [html.unescape(th) for th in re.findall(r"<th[^>]*>([^<]*)</th>", page)]
    assert [h for h in headings if h.startswith("mean weight")] == [
        f"mean weight of {name}" for name in experts
    ]
    rows = page[page.index("<tbody>") :].split("<tr>")[1:]
    assert len(rows) == 3
    shares = [f"<td>{share:.3f}</td>" for share in reports[0].datasets[0].mean_coefficient]
    assert all("".join(shares) in row for row in rows)
    assert rows[0].index("2026-11-22T0600")  # the youngest first
    assert "2026-11-20T0600" in rows[-1]


def test_the_first_sentence_is_of_the_last_batch(experts):
    reports = batches(experts)
    assert "Batch 2026-11-22T0600, the last of 3, has 60 rows" in overview_words(reports)
    assert f"drifted from their fit: set: coefficient of {experts[0]}" in overview_words(reports)
    assert "no drift from their fit was detected" in overview_words(reports[:2])
    alone = report_record(experts, {"set": True}, batch="2026-11-20T0600")
    assert "scored without a saved fit" in overview_words([alone])
    doubt = Doubt(dataset="set", kind="flat", says="9 crops are of one colour.", todo="Look.")
    doubted = overview_words([*reports[:2], replace(reports[2], doubts=(doubt,))])
    assert doubted.endswith("looks wrong: set: 9 crops are of one colour. Look.")
    assert "wrong" not in overview_words([replace(alone, doubts=(doubt,)), reports[1]])


def test_the_table_of_drift_has_all_statistics(experts):
    table = drift_table(batches(experts))
    assert len(table) == 3 * (len(experts) + 1)
    assert list(table) == [
        "batch", "dataset", "n", "kind", "quantity", "of", "value", "effect", "threshold", "p",
        "alarm",
    ]  # fmt: skip
    assert table[table.alarm].batch.tolist() == ["2026-11-22T0600"]
