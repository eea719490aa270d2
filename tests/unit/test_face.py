"""`import dawin_ray`: a light face, and what it offers."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import dawin_ray
from dawin_ray import UserError, read_predictions
from dawin_ray.tables import PREDICTIONS


def test_the_face_is_light_and_complete():
    code = (
        "import sys, dawin_ray\n"
        "heavy = {'torch', 'ray', 'open_clip', 'pandas', 'pydantic', 'yaml'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
        "dawin_ray.UserError\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
    for name in dawin_ray.__all__:
        assert getattr(dawin_ray, name) is not None
    assert set(dawin_ray.__all__) <= set(dir(dawin_ray))
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        dawin_ray.scores  # noqa: B018  # it is looked up
    assert Path(dawin_ray.__file__).with_name("py.typed").exists()


@pytest.fixture
def run(monkeypatch):
    """A finished run of two data sets, of which one has labels, without its files."""
    from dawin_ray.report import rows

    class Run:
        batch = None

        @property
        def parts(self):
            return self

        def grows(self):
            return False

        def read(self, kind, folder, columns=None):
            assert kind == "predictions"
            labelled = folder == "dataset=a"
            if folder == "dataset=none":
                return
            values = {"label": [1, 0] if labelled else [None, None], "prediction": [1, 1]}
            table = pa.table(
                {f.name: pa.array(values.get(f.name, [None, None]), f.type) for f in PREDICTIONS}
            )
            for row in range(2):
                yield table[row : row + 1].select(columns)

    monkeypatch.setattr(rows.RunDirectory, "at", lambda address: Run())
    monkeypatch.setattr(rows, "_datasets", lambda run: ["a", "b", "none"])


@pytest.mark.usefixtures("run")
def test_predictions_are_read_as_a_frame():
    frame = read_predictions("run")
    assert list(frame.columns) == [*PREDICTIONS.names, "dataset"]
    assert frame.dataset.tolist() == ["a", "a", "b", "b"]
    assert frame.label[:2].tolist() == [1, 0]
    assert frame.label[2:].isna().all()
    accuracy = (frame.prediction == frame.label).groupby(frame.dataset).mean()
    assert accuracy["a"] == 0.5
    assert accuracy.isna()["b"]  # and not 0
    assert list(read_predictions("run", "b", ["prediction", "dataset"]).columns) == [
        "prediction", "dataset",
    ]  # fmt: skip
    assert read_predictions("run", columns=["dataset"]).dataset.tolist() == ["a", "a", "b", "b"]
    nothing = read_predictions("run", "none")  # all of it was rejected
    assert nothing.dtypes.drop("dataset").equals(frame.dtypes.drop("dataset"))
    assert nothing.empty


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"dataset": "c"}, "'c'; it has: a, b"), ({"columns": ["labels"]}, "no column 'labels'")],
)
def test_what_is_not_there_is_refused_with_what_is(arguments, words):
    with pytest.raises(UserError, match=words):
        read_predictions("run", **arguments)
