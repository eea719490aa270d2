"""The question a report answers: replace the incumbent, or not; and what is tested with what."""

from dataclasses import replace

import pytest
from statsmodels.stats.multitest import multipletests

from dawin_ray.errors import UserError
from dawin_ray.report import page
from dawin_ray.report.action import actions_of
from dawin_ray.report.audit import _adjusted, audit
from dawin_ray.report.figures import ALPHA, Audit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.words import answer_of, answers_of
from dawin_ray.statistics import paired_differences
from tests.unit.report.made import EXPERTS, LABELLED, job_of, write_run


def asked(finished: FinishedRun, incumbent: str | None) -> FinishedRun:
    return replace(finished, job=finished.job.model_copy(update={"incumbent": incumbent}))


def adjusted(found: Audit, names) -> tuple[list[float], list[float]]:
    """P-values of the methods `names`, adjusted: by the audit, and by another implementation."""
    tests = [row.differences[name] for row in found.labelled for name in names]
    return [t.p_holm for t in tests], multipletests([t.p for t in tests], method="holm")[1].tolist()


@pytest.mark.parametrize("incumbent", [None, "the first", "exact"])
def test_the_question_is_tested_apart_from_other_methods(finished, experts, incumbent):
    incumbent = experts[0] if incumbent == "the first" else incumbent
    found = audit(asked(finished, incumbent))
    primary = experts if incumbent is None else [incumbent]
    assert list(found.primary) == primary
    others = [name for name in found.rivals if name not in primary]
    assert others
    for family in (primary, others):
        ours, theirs = adjusted(found, family)
        assert ours == pytest.approx(theirs)
    sizes = (len(primary) * 3, len(others) * 3)  # three data sets have labels
    assert all(str(size) in found.words[-1] for size in sizes)


def test_more_baselines_hide_nothing_of_the_experts(found, experts):
    """The same tests, as clear as each other, with and without those of twenty more methods."""
    others = [name for name in found.rivals if name not in experts]
    copies = [f"{name}_{i}" for name in others for i in range(20)]
    rows = []
    for row in found.labelled:
        clear = replace(row.differences[experts[0]], p=0.001)
        names = [*experts, *copies]
        rows.append(replace(row, differences=dict.fromkeys(names, clear)))
    apart, together = (
        {row.differences[name].p_holm for row in _adjusted(rows, families) for name in experts}
        for families in ((experts, copies), ([*experts, *copies],))
    )
    assert list(apart) == pytest.approx([0.001 * len(rows) * len(experts)])
    assert min(together) > 0.05 > max(apart)


def judged(found: Audit, incumbent: str, says: dict[str, str], mean: str | None) -> Audit:
    """An audit with these verdicts against the incumbent."""
    rows = tuple(
        replace(
            row,
            differences={
                **row.differences,
                incumbent: replace(row.differences[incumbent], says=says[row.dataset]),
            },
        ) if row.dataset in says else row
        for row in found.datasets
    )  # fmt: skip
    suite = found.suite
    if mean is not None:
        difference = replace(suite.differences[incumbent], says=mean)
        suite = replace(suite, differences={**suite.differences, incumbent: difference})
    else:
        suite = None
    result = replace(found, datasets=rows, suite=suite, incumbent=incumbent)
    return replace(result, replace_it=answer_of(result))


NONE = "no significant difference"


@pytest.mark.parametrize(
    ("mean", "answer"), [("better", "yes"), ("worse", "no"), (NONE, "not shown")]
)
def test_the_answer_goes_by_the_mean_and_says_where_it_harms(found, experts, mean, answer):
    says = {"inside": NONE, "one": "worse", "two": "better"}
    asked_for = judged(found, experts[1], says, mean)
    assert asked_for.replace_it == answer
    (action,) = actions_of(asked_for)
    begin = "Replace" if answer == "yes" else "Do not replace"
    assert action.startswith(f"{begin} {experts[1]}")
    assert "harms on one (" in action
    first, second = answers_of(asked_for)
    assert first.startswith("Averaged over the shifts (2), DaWin is right on ")
    assert second.startswith("In distribution (inside), DaWin is right on ")
    # nobody else is in it
    assert not [n for n in experts if n != experts[1] and n in action + first]


@pytest.mark.parametrize(
    ("one", "two", "answer"),
    [("better", "better", "yes"), ("worse", "worse", "no"), ("better", NONE, "not shown"),
     ("better", "worse", "not shown")],
)  # fmt: skip
def test_without_a_mean_it_goes_by_the_data_sets(found, experts, one, two, answer):
    says = {"inside": "worse", "one": one, "two": two}
    asked_for = judged(found, experts[0], says, None)
    assert asked_for.replace_it == answer
    sentences = answers_of(asked_for)
    assert sentences[0].startswith("On one, ")
    assert sentences[-1].startswith("In distribution (inside), ")


def test_without_labels_there_is_no_answer(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": False}, incumbent="zero_shot")
    found = page.write_page(run)
    assert (found.incumbent, found.replace_it) == ("zero_shot", None)
    assert "Replace" not in run.read_text("report.html")


def test_the_first_screen_has_the_answer(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], LABELLED, incumbent="photo")
    found = page.write_page(run)
    text = run.read_text("report.html")
    action = {"yes": "Replace photo", "no": "Do not replace photo", "not shown": "Not shown: "}
    first = text[text.index('<p class="action">') :]
    assert action[found.replace_it] in first[: first.index("</p>")]
    table = text[text.index("<table") : text.index("</table")]
    assert "photo, % (incumbent)" in table
    assert "sketch" not in table
    assert Audit.read(run).replace_it == found.replace_it


@pytest.mark.parametrize("name", ["nobody", "oracle"])
def test_only_a_rival_is_an_incumbent(tmp_path, name):
    with pytest.raises(UserError, match=r"incumbent: expected an expert or a baseline .*zero_shot"):
        job_of(tmp_path, EXPERTS[2], ["one"], incumbent=name)


def test_the_page_says_what_it_was_made_of(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": True})
    run.write_json("fingerprint.json", {
        "version": 1, "code": "0.1.7", "libraries": {"torch": "2.99", "timm": "1"},
        "checkpoints": {"zero_shot.pt": "ab" * 32},
    })  # fmt: skip
    page.write_page(run)
    text = run.read_text("report.html")
    made = text[text.index('id="made"') :]
    for part in ("ViT-B-32", "zero_shot.pt (sha256 abababababab…)", "<dd>fine_tuned.pt</dd>",
                 "entropy, K = 3", "float32, on cpu", "dawin_ray 0.1.7, torch 2.99"):  # fmt: skip
        assert part in made


@pytest.mark.parametrize("incumbent", [None, "the first"])
def test_intervals_of_means_hold_together_in_their_family(finished, experts, incumbent):
    """Bonferroni over the family alone: an incumbent's interval is at the level itself."""
    incumbent = experts[0] if incumbent else None
    found = audit(asked(finished, incumbent))
    rows = [row for row in found.labelled if row.dataset != "inside"]
    primary = [incumbent] if incumbent else experts
    others = [name for name in found.rivals if name not in primary]
    for family in (primary, others):
        for name in family:
            counts = [(d.better, d.worse, d.n) for d in (row.differences[name] for row in rows)]
            expected = paired_differences(counts, level=1 - ALPHA / len(family))
            difference = found.suite.differences[name]
            assert (difference.low, difference.high) == (expected.low, expected.high)
