"""The second suite: its tasks' images, its packed models, and the job over both."""

import json
import re

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from safetensors import safe_open
from safetensors.torch import load_file

from dawin_ray.config import load_job
from dawin_ray.demo import TASKS_CONFIG, TASKS_PACKED
from dawin_ray.demo.datasets import SHARDS
from dawin_ray.demo.glyphs import SIDE, Style, draw
from dawin_ray.demo.job import write_tasks_job
from dawin_ray.demo.packed import BASE, HEAD, STEP, pack, unpack
from dawin_ray.demo.tasks import (
    ANY_CHARACTER,
    BROAD,
    TASKS,
    TEST_IMAGES,
    TYPEFACES,
    broad_images,
    make_test_set,
    own_images,
    training_images,
)
from dawin_ray.errors import UserError
from tests.readme import DOCS, rows

PACKED_BYTES = 3_000_000  # at most


def rng(seed=0):
    return np.random.default_rng(seed)


def of_fonts():
    """Characters and the fonts that draw them, for each task and the base."""
    for name, task in TASKS.items():
        if name == "typefaces":
            for pair in TYPEFACES.values():
                yield name, ANY_CHARACTER, (*pair[0], *pair[1])
        else:
            yield name, task.classes, (*BROAD.fonts, *task.style.fonts)


@pytest.mark.parametrize(("name", "characters", "fonts"), of_fonts())
def test_every_font_draws_every_character_of_a_task(name, characters, fonts):
    plain = Style(fonts=(), angle=(0, 0), ink=(0, 1), paper=(255, 256), jitter=0)
    for font in fonts:
        there = FT2Font(f"{get_data_path()}/fonts/ttf/{font}").get_charmap()
        assert not [c for c in characters if ord(c) not in there], font
    if name != "typefaces":  # whose characters are no classes
        for font in fonts:
            style = Style(**{**vars(plain), "fonts": (font,), "size": (26, 26)})
            images = {draw(c, style, rng()).tobytes() for c in characters}
            assert len(images) == len(characters), f"{font} draws two classes alike"


def test_tasks_have_classes_of_their_own():
    characters = [c for name, task in TASKS.items() if name != "typefaces" for c in task.classes]
    assert len(set(characters)) == len(characters)
    assert len(TASKS) == 8


@pytest.mark.parametrize("name", TASKS)
def test_a_test_set_is_fixed_and_balanced(name):
    images_NHW, labels_N = make_test_set(name)
    assert images_NHW.shape == (TEST_IMAGES, SIDE, SIDE)
    assert images_NHW.dtype == np.uint8
    assert (images_NHW.max(axis=(1, 2)) > images_NHW.min(axis=(1, 2))).all()
    counts = np.bincount(labels_N, minlength=len(TASKS[name].classes))
    if name == "digits":  # handwriting is as it was collected
        assert counts.min() >= 30
    else:
        assert np.ptp(counts) <= 1
    again_NHW, again_N = make_test_set(name)
    np.testing.assert_array_equal(again_NHW, images_NHW)
    np.testing.assert_array_equal(again_N, labels_N)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_that_is_tested_was_learned(name, monkeypatch):
    monkeypatch.setattr("dawin_ray.demo.tasks.TRAINING_IMAGES", 300)
    monkeypatch.setattr("dawin_ray.demo.tasks.BROAD_IMAGES", 300)
    tested = {image.tobytes() for image in make_test_set(name)[0]}
    for images_NHW, labels_N in (training_images(name, 0), broad_images(name, 0)):
        assert set(labels_N) == set(range(len(TASKS[name].classes)))
        assert not tested & {image.tobytes() for image in images_NHW}


def test_the_base_has_seen_none_of_the_fonts_but_for_two_of_the_typefaces():
    drawn = {n: task.style.fonts for n, task in TASKS.items() if n not in ("digits", "typefaces")}
    assert not [n for n, fonts in drawn.items() if set(fonts) & set(BROAD.fonts)]
    tested = {font for _, fonts in TYPEFACES.values() for font in fonts}
    learned = {font for fonts, _ in TYPEFACES.values() for font in fonts}
    assert len(tested & (learned | set(BROAD.fonts))) == 2


def test_images_follow_the_seed():
    first, second, other = (own_images("greek", 30, rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_an_unknown_task_is_refused():
    with pytest.raises(UserError, match=r"no task 'runes'; choose from: digits, capitals"):
        make_test_set("runes")


def test_what_is_packed_comes_out_within_half_a_step(tmp_path):
    draw_NF = torch.Generator().manual_seed(0)
    base = {"visual.a": torch.randn(4, 3, generator=draw_NF), "visual.b": torch.ones(2)}
    expert = {name: tensor + 0.1 * tensor.sin() for name, tensor in base.items()}
    heads = {"one": torch.randn(5, 3, generator=draw_NF)}
    pack(base, {"one": expert, "same": base}, heads, tmp_path / "p.safetensors")
    models, heads_out = unpack(tmp_path / "p.safetensors")
    assert models.keys() == {BASE, "one", "same"}
    torch.testing.assert_close(heads_out["one"], heads["one"].half().float(), rtol=0, atol=0)
    for name, tensor in base.items():
        assert torch.equal(models[BASE][name], tensor.half().float())
        away = (expert[name] - models[BASE][name]).abs().max() / 127
        assert (models["one"][name] - expert[name]).abs().max() <= away / 2 + 1e-7
        assert (models["same"][name] - tensor).abs().max() < 1e-5


def test_the_packed_models_are_of_the_architecture_and_small():
    import open_clip

    config = json.loads(TASKS_CONFIG.read_text())
    with torch.device("meta"):
        visual = open_clip.CLIP(**config).visual
    tower = {f"visual.{key}": list(value.shape) for key, value in visual.state_dict().items()}
    expected = {f"{BASE}/{name}": ("F16", shape) for name, shape in tower.items()}
    for task in TASKS:
        width = [len(TASKS[task].classes), config["embed_dim"]]
        expected[f"{HEAD}/{task}"] = ("F16", width)
        expected |= {f"{task}/{name}": ("I8", shape) for name, shape in tower.items()}
        expected |= {f"{task}/{name}{STEP}": ("F32", []) for name in tower}
    with safe_open(TASKS_PACKED, framework="pt") as file:
        found = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        assert {k: (s.get_dtype(), s.get_shape()) for k, s in found.items()} == expected
    assert TASKS_PACKED.stat().st_size < PACKED_BYTES


def test_the_job_has_a_head_and_an_expert_for_each_task(tmp_path):
    path = write_tasks_job(tmp_path)
    job = load_job(str(path))
    assert [dataset.name for dataset in job.datasets] == list(TASKS)
    assert [expert.name for expert in job.experts] == list(TASKS)
    for dataset in job.datasets:
        assert dataset.expert == dataset.name
        head = load_file(dataset.head.checkpoint)
        assert list(head) == ["classification_head.weight"]
        assert head["classification_head.weight"].shape[0] == len(TASKS[dataset.name].classes)
        assert len(list((tmp_path / "data" / dataset.name).glob("*.tar"))) == SHARDS
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert len(written) == 1 + 2 * len(TASKS)
    write_tasks_job(tmp_path)  # what is there is left alone, so that a run is resumed
    assert {p: p.stat().st_mtime_ns for p in written} == written


COLUMNS = ("base", "averaging", "arithmetic", "ties", "k1", "k3", "exact", "own", "oracle")


def shown_table() -> dict[str, dict[str, float]]:
    """The README's table: accuracies in per cent by task, its mean among them."""
    return {
        name.strip("*"): dict(zip(COLUMNS, map(float, cells), strict=True))
        for name, _, *cells in rows("| task | classes | base")
    }


def test_the_table_is_of_the_tasks_and_its_means_are_means():
    table = shown_table()
    assert list(table) == [*TASKS, "mean"]
    for column in COLUMNS:
        mean = np.mean([table[name][column] for name in TASKS])
        assert table["mean"][column] == pytest.approx(mean, abs=0.1)
    text = " ".join(DOCS["dawin_ray/demo/README.md"].split())
    assert f"{len(TASKS) * TEST_IMAGES:,} images" in text
    assert f"{TASKS_PACKED.stat().st_size / 1e6:.1f} MB" in text


def test_what_is_said_of_the_table_follows_from_it():
    table = shown_table()
    for name in TASKS:
        row = table[name]
        once = max(row[column] for column in ("base", "averaging", "arithmetic", "ties"))
        ours = [row[column] for column in ("k1", "k3", "exact")]
        assert once < row["k1"] <= max(ours) < row["own"]
    text = " ".join(DOCS["dawin_ray/demo/README.md"].split())
    mean = table["mean"]
    for a, b, pattern in (
        ("k1", "ties", r"by ([\d.]+) points in the mean \(K = 1 against TIES"),
        ("own", "k1", r"worse than the own expert, by ([\d.]+) points"),
        ("k1", "k3", r"better than three, by ([\d.]+) points"),
        ("k1", "exact", r"better than one a sample, by ([\d.]+) points"),
    ):
        assert mean[a] - mean[b] == pytest.approx(float(re.search(pattern, text)[1]), abs=0.11)
