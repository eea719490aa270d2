"""A look at samples: how many are read, and which are shown."""

from dawin_ray.data import DatasetClasses, ImageDecoder, read_samples
from dawin_ray.drafts import samples
from dawin_ray.drafts.layout import places_at
from dawin_ray.drafts.samples import LOOKED, SHOWN, heard, look_at
from dawin_ray.models import Preprocessing
from tests.conftest import make_images, write_folder, write_tar

CLASSES = DatasetClasses(count=6, names=("a", "b", "c", "d", "e", "f"))
DECODER = ImageDecoder(Preprocessing.of({"size": 32}))


def looked_at(path, classes=CLASSES):
    [place] = places_at(str(path), (), None)
    return look_at(place, classes, DECODER)


def test_no_more_samples_are_read_than_are_looked_at(tmp_path, monkeypatch):
    """Of some shards, spread over all."""
    for i in range(9):
        write_tar(tmp_path / f"{i}.tar", make_images(20), [i % 6] * 20)
    read = []

    def counting(shard):
        for sample in read_samples(shard):
            read.append((shard.name, sample.sample_id))
            yield sample

    monkeypatch.setattr(samples, "read_samples", counting)
    looked = looked_at(tmp_path)
    assert {shard for shard, _ in read} == {f"{i}.tar" for i in (0, 2, 4, 6, 8)}
    assert LOOKED <= len(read) <= LOOKED + 5
    assert [seen.label for seen in looked.seen] == [0, 0, 2, 2, 4]


def test_images_of_a_folder_are_taken_from_all_of_it(tmp_path):
    write_folder(tmp_path, make_images(12), [i % 6 for i in range(12)])
    looked = looked_at(tmp_path)
    assert len(looked.seen) == SHOWN
    assert len({seen.label for seen in looked.seen}) == SHOWN
    assert {seen.label for seen in looked.seen} >= {0, 5}
    assert looked.named(2) == "label 2: c"
    assert looked.named(None) == "no label"


def test_labels_are_numbers_where_names_are_unknown(tmp_path):
    write_tar(tmp_path / "0.tar", make_images(2), [1, 9])
    looked = looked_at(tmp_path, None)
    assert (looked.named(9), looked.labels_from) == ("label 9", "not known yet")
    assert [seen.label for seen in looked.seen] == [1, 9]
    assert looked_at(tmp_path).named(9) == "label 9"  # it is none of the classes


def test_one_label_in_all_files_is_a_doubt(tmp_path):
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", make_images(4), [3] * 4)
    assert "all of the 8 samples have label 3: d" in looked_at(tmp_path).doubts


def test_warnings_are_doubts_and_not_logged(caplog):
    with heard() as said:
        samples.logging.getLogger("dawin_ray.data").warning("so %s", "it is")
    assert said == ["so it is"]
    assert not caplog.records
