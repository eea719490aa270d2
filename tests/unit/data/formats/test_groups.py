"""What the members of one key are: read, refused with a remedy, and never mixed."""

import pytest

from dawin_ray.names import MADE
from tests.unit.data.formats.test_tars import read, scored, tar


def samples_of(folder, *names: str, **settings):
    """Samples of members whose images hold their own name, and whose labels are of `.N.cls`."""
    members = []
    for name in names:
        name, _, label = name.partition("=")
        members.append((name, label.encode() if label else name.encode()))
    return read(folder, tar(members), **settings)


@pytest.mark.parametrize(
    ("names", "image", "label"),
    [
        (["a.input.jpg", "a.output.cls=3"], "a.input.jpg", 3),
        (["a.image.PNG", "a.cls=3"], "a.image.PNG", 3),
        (["a.0.png", "a.0.cls=3"], "a.0.png", 3),
        (["22.05.png", "22.05.cls=3"], "22.05.png", 3),
        (["22.05.png", "22.cls=3"], "22.05.png", 3),
        (["a.jpg", "a.mask.png", "a.cls=3"], "a.jpg", 3),
        (["a.mask.png", "a.depth.png", "a.cls=3", "a.jpg"], "a.jpg", 3),
        (["a.jpg", "a.fine.cls=3"], "a.jpg", 3),
        (["a.jpg", "a.fine.cls=4", "a.cls=3"], "a.jpg", 3),
        (["a.input.jpg", "a.json={}"], "a.input.jpg", None),
        (["a.jpg", 'a.json={"label": 3}'], "a.jpg", 3),
        (["a.jpg", 'a.json={"label": 4}', "a.cls=3"], "a.jpg", 3),
        (["a.jpg", "a.json=" + "[" * 100_000], "a.jpg", None),
    ],
)
def test_the_last_part_of_an_extension_decides_where_it_is_the_only_one(
    tmp_path, names, image, label
):
    [sample] = samples_of(tmp_path, *names)
    assert (sample.sample_id, sample.error) == ("s.tar/" + names[0].split(".")[0], None)
    assert (sample.image, sample.label) == (image.encode(), label)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.jpg", "a.png", "a.cls=1"], "2 images under one key, jpg, png"),
        (["a.jpg", "a.cls=1", "a.jpeg"], "2 images under one key, jpeg, jpg"),
        (["a.jpg", "a.jpg"], "its member 'a.jpg' is there 2 times"),
        (["a.jpg", "a.cls=1", "a.JPG"], "its member 'a.jpg' is there 2 times"),
        (["a.jpg", "a.cls=1", "a.cls=1"], "its member 'a.cls' is there 2 times"),
        (["a.jpg", 'a.json={"label": 1}', 'a.json={"label": 2}'], "'a.json' is there 2 times"),
        (["a.jpg", "a.fine.cls=1", "a.coarse.cls=2"], "2 labels under one key, coarse.cls, fine"),
        (["a.05.png", "a.06.cls=1"], "names of two samples, 05.png, 06.cls"),
        (["a.jpg", "a.06.cls=1"], "names of two samples, 06.cls, jpg"),
        (["a.txt", "a.cls=1"], "no image member (jpg, "),
    ],
)
def test_what_cannot_be_told_apart_is_one_reject(tmp_path, names, reason):
    samples = samples_of(tmp_path, *names, "b.jpg")
    assert [s.sample_id for s in samples] == ["s.tar/a", "s.tar/b"]
    assert reason in samples[0].error
    assert samples[0].image is None
    assert scored(samples) == [(b"b.jpg", None)]


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["a.jpg", "a.fine.cls=1", "a.b.cls=1"]])
def test_the_reason_says_what_to_do(tmp_path, names):
    [sample] = samples_of(tmp_path, *names)
    assert "datasets[]." in sample.error


def test_images_whose_names_differ_behind_the_first_dot_are_each_a_reject(tmp_path):
    """A shard of 22.05.png, 22.06.png and so on has one key for WebDataset."""
    names = [n for i in (5, 6, 7) for n in (f"22.0{i}.png", f"22.0{i}.cls={i}")]
    samples = samples_of(tmp_path, *names, "23.05.png", "23.05.cls=1")
    assert [s.sample_id for s in samples] == [
        "s.tar/22.05.png", "s.tar/22.06.png", "s.tar/22.07.png", "s.tar/23",
    ]  # fmt: skip
    assert scored(samples) == [(b"23.05.png", 1)]
    assert "3 images under one key, 05.png, 06.png, 07.png" in samples[0].error
    assert "rename the members" in samples[0].error


def test_another_numbered_image_beside_an_image_is_told(tmp_path):
    samples = samples_of(tmp_path, "a.jpg", "a.1.jpg", "a.mask.png", "a.cls=2")
    assert [s.sample_id for s in samples] == ["s.tar/a", "s.tar/a.1.jpg"]
    assert scored(samples) == [(b"a.jpg", 2)]
    assert "shares its key with jpg" in samples[1].error


@pytest.mark.parametrize("named", ["png", "PNG"])
def test_the_job_may_name_the_image(tmp_path, named):
    samples = samples_of(tmp_path, "a.jpg", "a.png", "a.cls=1", "b.jpg", image_column=named)
    assert scored(samples) == [(b"a.png", 1)]
    assert f"no image member ({named.lower()}) among jpg" in samples[1].error


def test_the_job_may_name_the_label(tmp_path):
    samples = samples_of(
        tmp_path, "a.jpg", "a.fine.cls=1", "a.coarse.cls=2", "b.jpg", "b.cls=3",
        label_column="coarse.cls",
    )  # fmt: skip
    assert scored(samples) == [(b"a.jpg", 2), (b"b.jpg", None)]


def test_the_job_may_name_a_key_of_json(tmp_path):
    names = ["a.jpg", 'a.json={"fine": 2, "label": 1}', "b.jpg", "b.json={}", "c.jpg", "c.fine=3"]
    samples = samples_of(tmp_path, *names, label_column="fine")
    assert scored(samples) == [(b"a.jpg", 2), (b"b.jpg", None), (b"c.jpg", 3)]
    samples = samples_of(tmp_path, *names, label_column="none")
    assert [label for _, label in scored(samples)] == [None, None, None]


def test_a_name_that_no_member_has_is_a_way_to_read_without_labels(tmp_path):
    samples = samples_of(tmp_path, "a.jpg", "a.cls=cat", "b.jpg", label_column="none")
    assert scored(samples) == [(b"a.jpg", None), (b"b.jpg", None)]


def test_a_key_that_comes_again_is_a_reject_however_often(tmp_path):
    samples = samples_of(tmp_path, "a.jpg", "b.jpg", "a.jpg", "b.jpg", "a.png", "a.cls=1")
    assert scored(samples) == [(b"a.jpg", None), (b"b.jpg", None)]
    assert [MADE in s.sample_id for s in samples] == [False, False, True, True, True]
    assert len({s.sample_id for s in samples}) == 5
    assert all("occurs before" in s.error for s in samples[2:])


def test_members_without_a_stem_or_extension_are_no_samples(tmp_path):
    samples = samples_of(tmp_path, "README", ".hidden.jpg", "d/.x.jpg", "__key__", "a.jpg")
    assert [s.sample_id for s in samples] == ["s.tar/a"]


def test_an_image_that_is_not_wanted_is_held_by_nobody(tmp_path):
    from dawin_ray.data.formats.registry import read_samples
    from tests.unit.data.formats.test_tars import shard_of

    data = tar([("a.input.jpg", b"1"), ("a.cls", b"0"), ("b.jpg", b"2"), ("b.x.png", b"3")])
    shard = shard_of(tmp_path, data)
    for wanted in (set(), {0}, {1}, {0, 1}):
        samples = list(read_samples(shard, wanted.__contains__))
        assert [s.error for s in samples] == [None, None]
        assert [s.image for s in samples] == [
            b"1" if 0 in wanted else None,
            b"2" if 1 in wanted else None,
        ]
