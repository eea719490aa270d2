"""The doctor names each fault that is planted in numbers and nothing else; sound rows it leaves."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dawin_ray.report import doubts
from dawin_ray.report.doctor import UNCOUNTED, doubts_of, examine, unjudged
from dawin_ray.report.doubts import KINDS
from dawin_ray.report.orders import order_of
from dawin_ray.report.patient import Patient
from dawin_ray.statistics import Rows, Summary, hashes_of

CLASSES, ROWS = 10, 400
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EXPERTS = ("zero_shot", "fine_tuned")


def draw_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def answers(truth: np.ndarray, right: float, seed: int) -> np.ndarray:
    draw = draw_of(seed)
    guess = draw.integers(0, CLASSES, len(truth))
    return np.where(draw.random(len(truth)) < right, truth, guess).astype(np.int32)


def sound(seed: int = 0, right=(0.8, 0.9), rows: int = ROWS) -> Rows:
    """Rows of two experts and DaWin; `label` is what the images show."""
    truth = np.arange(rows) % CLASSES
    said = [answers(truth, share, seed + i) for i, share in enumerate((*right, max(right)))]
    return rows_of(truth, said, seed)


def rows_of(label: np.ndarray, said: list[np.ndarray], seed: int = 0) -> Rows:
    draw, n = draw_of(seed + 100), len(label)
    names = (*EXPERTS, "dawin")

    def numbers(*shape):
        return draw.random(shape).astype(np.float32)

    return Rows(
        experts=EXPERTS,
        ids=hashes_of(map(str, range(n))),
        label=label,
        prediction=dict(zip(names, said, strict=True)),
        confidence=dict.fromkeys(names, (0.8 + 0.2 * numbers(n)).astype(np.float32)),
        nll=dict.fromkeys(names, numbers(n)),
        brier=dict.fromkeys(names, numbers(n)),
        entropy=numbers(n, 2),
        coefficient=numbers(n, 2),
        expert_prediction=np.stack(said[:2], axis=1),
        cluster=None,
        crop_hash=hashes_of(f"crop {i}" for i in range(n))[:, 0],
        crop_range=np.full(n, 200, dtype=np.uint8),
    )


def found_in(rows: Rows, dataset: str = "set", names=NAMES, **about):
    patient = Patient(
        dataset=dataset, summary=Summary.of(rows), count=CLASSES, names=names, **about
    )
    return examine(patient)


def doubted(*rows: Rows, **about):
    return doubts_of([found_in(r, f"set_{i}", **about) for i, r in enumerate(rows)])


def only(found, kind: str):
    assert [doubt.kind for doubt in found] == [kind], [doubt.words for doubt in found]
    assert found[0].todo == KINDS[kind].todo
    return found[0]


def relabelled(rows: Rows, order) -> Rows:
    return replace(rows, label=np.asarray(order)[rows.label])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("right", [(0.8, 0.9), (0.3, 0.95), (0.5, 0.4), (0.25, 0.3)])
def test_sound_rows_raise_no_doubt(right, seed):
    assert doubted(sound(seed, right)) == ()


def test_nothing_is_said_of_few_rows_or_of_none():
    few = sound(rows=doubts.MIN_ROWS - 1)
    assert doubted(replace(few, label=(few.label + 1) % CLASSES)) == ()
    assert doubted(Rows.none(EXPERTS, (*EXPERTS, "dawin"))) == ()
    assert doubts_of([]) == ()


def test_permuted_labels_are_named_with_the_first_pairs():
    order = [4, 7, 0, 1, 9, 2, 8, 3, 5, 6]
    doubt = only(doubted(relabelled(sound(), order)), "permuted")
    assert doubt.dataset == "set_0"
    assert doubt.says.startswith(
        "labels look permuted: 'zero' is called 'two', 'one' is called 'three', 'two' is called "
        "'five' and 7 more; fine_tuned is right on"
    )
    assert doubt.evidence["best"] > 0.85
    assert doubt.evidence["accuracy"] < 0.1
    assert "0 is called 2" in doubted(relabelled(sound(), order), names=None)[0].says


def test_two_labels_in_each_others_place_are_found_among_many_classes():
    """They cost two points of accuracy; all others are as they were."""
    truth = np.arange(3000) % 100
    said = [np.where(draw_of(i).random(3000) < 0.85, truth, 7).astype(np.int32) for i in range(3)]
    label = np.where(truth == 3, 60, np.where(truth == 60, 3, truth))
    rows = rows_of(label, said)
    patient = Patient(dataset="set", summary=Summary.of(rows), count=100)
    doubt = only(doubts_of([examine(patient)]), "permuted")
    assert "3 is called 60, 60 is called 3;" in doubt.says
    clean = Patient(dataset="set", summary=Summary.of(replace(rows, label=truth)), count=100)
    assert doubts_of([examine(clean)]) == ()


@pytest.mark.parametrize(("step", "words"), [(1, "one less"), (-1, "one more")])
def test_labels_that_are_shifted_by_one_are_told_from_other_orders(step, words):
    rows = sound()
    doubt = only(doubted(replace(rows, label=(rows.label + step) % CLASSES)), "shifted")
    assert doubt.says.endswith(f"with labels {words}.")
    assert doubt.evidence["step"] == -step


def test_labels_of_other_images_are_no_order():
    rows = sound()
    doubt = only(doubted(replace(rows, label=draw_of(3).permutation(rows.label))),
                 "no_better_than_chance")  # fmt: skip
    assert "no expert is better than chance" in doubt.says


def test_experts_that_know_that_they_do_not_know_raise_no_doubt():
    rows = sound()
    unsure = {name: np.full(ROWS, 0.2, np.float32) for name in rows.confidence}
    lost = replace(rows, label=draw_of(3).permutation(rows.label), confidence=unsure)
    assert doubted(lost) == ()


def test_a_random_expert_is_one_beside_an_able_one():
    doubt = only(doubted(sound(right=(0.0, 0.9))), "expert_at_chance")
    assert doubt.says.startswith("expert zero_shot is no better than chance on set_0")


def test_an_expert_of_another_task_is_not_doubted():
    """It knows nothing of one data set, and its own it knows."""
    assert doubted(sound(right=(0.0, 0.9)), sound(right=(0.9, 0.0))) == ()
    both = doubted(sound(0, (0.0, 0.9)), sound(9, (0.0, 0.8)))
    assert only(both, "expert_at_chance").dataset is None
    assert "each of 2 data sets" in both[0].says


def test_an_expert_at_chance_on_its_own_task_is():
    sets = [found_in(sound(right=(0.0, 0.9)), "own", own="zero_shot"), found_in(sound(9), "other")]
    assert "its own task" in only(doubts_of(sets), "expert_at_chance").says


def test_a_wrong_head_is_one_experts_order():
    rows = sound()
    order = np.array([4, 7, 0, 1, 9, 2, 8, 3, 5, 6], dtype=np.int32)
    said = [order[rows.prediction["zero_shot"]], rows.prediction["fine_tuned"]]
    wrong = rows_of(rows.label, [*said, rows.prediction["dawin"]])
    doubt = only(doubted(wrong), "head")
    assert "the classes of expert zero_shot look permuted, and not the others'" in doubt.says
    assert "'zero' is called 'four'" in doubt.says


def test_one_answer_for_all_images():
    rows = sound()
    same = np.full(ROWS, 3, dtype=np.int32)
    all_of_them = only(doubted(rows_of(rows.label, [same, same, same])), "one_answer")
    assert "'three' of zero_shot, fine_tuned, DaWin" in all_of_them.says
    one = doubted(rows_of(rows.label, [same, *list(rows.prediction.values())[1:]]))
    assert "'three' of zero_shot." in only(one, "one_answer").says


def test_one_answer_is_seen_without_labels():
    rows = sound()
    same = np.full(ROWS, 3, dtype=np.int32)
    bare = replace(rows, label=np.full(ROWS, -1), prediction=rows.prediction | {"dawin": same})
    assert "'three' of DaWin" in only(doubted(bare), "one_answer").says


def test_labels_of_one_class():
    doubt = only(doubted(replace(sound(), label=np.full(ROWS, 8))), "one_label")
    assert doubt.says == "100.0 % of the labels are one class, 'eight'."


def test_a_class_without_samples_is_named_where_others_have_many():
    rows = sound(rows=ROWS)
    kept = np.flatnonzero(rows.label != 7)
    lacking = rows_of(rows.label[kept], [said[kept] for said in rows.prediction.values()])
    assert "no sample has the label 'seven'" in only(doubted(lacking), "absent").says
    half = np.flatnonzero(rows.label < 5)  # a set with other classes
    assert doubted(rows_of(rows.label[half], [s[half] for s in rows.prediction.values()])) == ()


def test_copies_with_two_labels():
    rows = sound()
    hashes = rows.crop_hash.copy()
    hashes[1:11:2] = hashes[:10:2]  # neighbours have different labels
    doubt = only(doubted(replace(rows, crop_hash=hashes)), "duplicates")
    assert doubt.evidence["crops"] == 5
    same = rows.crop_hash.copy()
    same[20:40] = same[:20]  # copies with one label
    assert doubted(replace(rows, crop_hash=same)) == ()


def test_crops_of_one_colour():
    rows = sound()
    ranges = rows.crop_range.copy()
    ranges[:4] = 2
    assert "4 crops (1.0 %)" in only(doubted(replace(rows, crop_range=ranges)), "flat").says
    ranges[0] = 200
    assert doubted(replace(rows, crop_range=ranges)) == ()


@pytest.mark.parametrize(("value", "kind"), [(0, "certain"), (np.log(CLASSES), "blank")])
def test_entropies_at_an_end(value, kind):
    rows = sound()
    entropy = rows.entropy.copy()
    entropy[:, 1] = value
    doubt = only(doubted(replace(rows, entropy=entropy)), kind)
    assert doubt.says.startswith("the entropies of fine_tuned are at")
    entropy[: ROWS // 20, 1] = 1.0  # on a few samples it does tell
    assert doubted(replace(rows, entropy=entropy)) == ()


def test_one_checkpoint_twice():
    rows = sound()
    said = [rows.prediction["fine_tuned"]] * 3
    twice = replace(rows_of(rows.label, said), entropy=np.repeat(rows.entropy[:, :1], 2, axis=1))
    doubt = only(doubted(twice, twice), "same_experts")
    assert doubt.dataset is None
    assert doubted(twice, sound(9)) == ()  # somewhere they differ


def test_rows_of_before_are_judged_by_what_they_have():
    rows = replace(sound(), crop_hash=None, crop_range=None)
    found = found_in(rows)
    assert found.doubts == ()
    assert unjudged([found]) == UNCOUNTED
    assert unjudged([found_in(sound())]) == ""


def test_an_order_is_judged_on_other_samples_than_it_was_chosen_by():
    """Of answers that are luck, the best order of all samples gains; that is no finding."""
    draw = draw_of(0)
    label, answer = draw.integers(0, 50, 300), draw.integers(0, 50, 300)
    order = order_of(label, answer, 50)
    assert abs(order.best - order.plain) < doubts.PERMUTED_GAIN / 2
    assert not order.is_moved


def test_orders_of_many_classes_take_bounded_memory():
    draw = draw_of(1)
    truth = draw.integers(0, 100_000, 5_000)
    order = order_of((truth + 1) % 100_000, truth, 100_000)
    assert order.plain == 0


def test_the_readme_has_each_kind_with_its_thresholds():
    text = (Path(doubts.__file__).parent / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == {kind: about.when for kind, about in KINDS.items()}
