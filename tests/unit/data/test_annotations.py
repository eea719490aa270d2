"""Files beside a tree of images that name them and say their labels, as their sets have them."""

import pytest
from pydantic import ValidationError

from dawin_ray.data import DatasetClasses, DatasetConfig, list_files, read_samples, settle
from dawin_ray.errors import UserError
from tests.conftest import make_images
from tests.unit.data.layouts import write_cars

IMAGES = make_images(4)
TEN = DatasetClasses(count=10)


def tree(root, *names):
    for name, image in zip(names, IMAGES, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image)
    return root


def source_of(path, annotations, classes=TEN, **settings):
    config = DatasetConfig(name="set", path=str(path), annotations=str(annotations), **settings)
    return settle(config, list_files(config), classes)


def labels_of(source) -> dict:
    shards = source.shards()
    return {s.sample_id: s.label for shard in shards for s in read_samples(shard)}


def written(path, text):
    path.write_text(text)
    return path


def test_resisc45s_list_chooses_from_class_folders_by_file_names(tmp_path):
    names = ["airplane/airplane_001.jpg", "airplane/airplane_002.jpg", "beach/beach_001.jpg"]
    root = tree(tmp_path / "NWPU-RESISC45", *names)
    chosen = written(tmp_path / "resisc45-test.txt", "beach_001.jpg\nairplane_002.jpg\n")
    source = source_of(root, chosen)
    assert labels_of(source) == {names[1]: 0, names[2]: 1}
    assert source.notes == ("left out: 1 images that its annotations do not name",)


def test_a_class_without_a_listed_image_keeps_its_label(tmp_path):
    root = tree(tmp_path / "set", "a/1.jpg", "b/2.jpg", "c/3.jpg")
    chosen = written(tmp_path / "list.txt", "c/3.jpg\n")
    assert labels_of(source_of(root, chosen)) == {"c/3.jpg": 2}


def test_a_list_may_have_labels(tmp_path):
    root = tree(tmp_path / "set", "a/1.jpg", "b/two words.jpg")
    chosen = written(tmp_path / "list.txt", "a/1.jpg 7\n\nb/two words.jpg\t3\n")
    assert labels_of(source_of(root, chosen)) == {"a/1.jpg": 7, "b/two words.jpg": 3}


def test_gtsrbs_table(tmp_path):
    root = tree(tmp_path / "GTSRB/Final_Test/Images", "00000.ppm", "00001.ppm")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
    rows = "00000.ppm;53;54;6;5;48;49;9\r\n00001.ppm;42;45;5;5;36;40;1\r\n"
    source = source_of(root, written(tmp_path / "GT-final_test.csv", header + rows))
    assert labels_of(source) == {"00000.ppm": 9, "00001.ppm": 1}
    assert source.labels_from == f"annotations {tmp_path / 'GT-final_test.csv'}"


def test_cars_classes_count_from_one(tmp_path):
    root = tree(tmp_path / "cars_test", "00001.jpg", "00002.jpg")
    path = write_cars(tmp_path / "cars.mat", ["00001.jpg", "00002.jpg"], [180, 0])
    assert labels_of(source_of(root, path)) == {"00001.jpg": 180, "00002.jpg": 0}
    path = write_cars(tmp_path / "cars.mat", ["00001.jpg", "00002.jpg"])  # as cars_test_annos.mat
    assert labels_of(source_of(root, path)) == {"00001.jpg": None, "00002.jpg": None}


def test_label_column_chooses_another_and_none_reads_none(tmp_path):
    root = tree(tmp_path / "set", "1.jpg")
    table = written(tmp_path / "t.csv", "path,label,fine\n1.jpg,2,5\n")
    assert labels_of(source_of(root, table)) == {"1.jpg": 2}
    assert labels_of(source_of(root, table, label_column="fine")) == {"1.jpg": 5}
    assert labels_of(source_of(root, table, label_column="none")) == {"1.jpg": None}


def test_other_annotations_are_other_data(tmp_path):
    root = tree(tmp_path / "set", "1.jpg")
    table = written(tmp_path / "t.csv", "path,label\n1.jpg,2\n")
    before = source_of(root, table).listing.identity()
    assert source_of(root, table).listing.identity() == before
    written(table, "path,label\n1.jpg,3\n")
    assert source_of(root, table).listing.identity() != before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "1.jpg\n2.jpg\n", r"1 of the 2 images .* not there, .*'2.jpg' .*l.txt, line 2"),
        ("l.txt", "1.jpg x\n", "l.txt, line 1: '1.jpg x' is no name"),
        ("l.txt", "1.jpg\n1.jpg\n", "l.txt, line 2: 'a/1.jpg' is there twice"),
        ("l.txt", "3.jpg\n", "l.txt, line 1: '3.jpg' may be any of 2 images.*a/3.jpg.*b/3.jpg"),
        ("l.csv", "path,label\n1.jpg,x\n", "l.csv, line 2: the label 'x' is no integer"),
        ("l.csv", "path,label\n1.jpg\n", "l.csv, line 2: 1 values for 2 columns"),
        ("l.csv", "a,b\n1.jpg,2\n", "l.csv, line 1: no column of names .* among a, b"),
        ("l.mat", "text", "l.mat' cannot be read: it is no MAT-file of version 5 to 7"),
        ("l.xml", "text", r"Unknown annotations.*expected .csv, .mat, .txt"),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_line(tmp_path, name, text, message):
    root = tree(tmp_path / "set", "a/1.jpg", "a/3.jpg", "b/3.jpg")
    with pytest.raises(UserError, match=message):
        source_of(root, written(tmp_path / name, text))


def test_bytes_that_are_no_text_are_refused_by_line(tmp_path):
    root = tree(tmp_path / "set", "1.jpg")
    (tmp_path / "l.txt").write_bytes(b"1.jpg\n\xff.jpg\n")
    with pytest.raises(UserError, match=r"l.txt, line 2: it is no UTF-8 text"):
        source_of(root, tmp_path / "l.txt")


def test_a_set_that_grows_may_lack_images(tmp_path):
    root = tree(tmp_path / "set", "1.jpg")
    chosen = written(tmp_path / "l.txt", "1.jpg 0\n2.jpg 1\n")
    config = DatasetConfig(name="set", path=str(root), annotations=str(chosen))
    listing = list_files(config, may_be_empty=True)
    assert (listing.labels, len(listing.files)) == ((0,), 1)


def test_annotations_are_of_folders(tmp_path):
    with pytest.raises(ValidationError, match="its format is parquet"):
        DatasetConfig(name="set", path="here", annotations="l.txt", format="parquet")
    with pytest.raises(ValidationError, match="Leave one out"):
        DatasetConfig(
            name="set", path="here", annotations="l.txt", skip_other_folders=True, classes="c.txt"
        )
    (tmp_path / "a.tar").write_bytes(bytes(10240))
    with pytest.raises(UserError, match="but holds tar shards"):
        list_files(DatasetConfig(name="set", path=str(tmp_path), annotations="l.txt"))
