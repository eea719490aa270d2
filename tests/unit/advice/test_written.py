"""A job file keeps its text, comments among it, but for what changes."""

import pytest
import yaml

from dawin_ray.advice.written import changed_text

JOB = """\
# our weekly job
run_dir: runs/a        # where it goes
mixture:               # as in the paper
  clusters: 3
  # not tried yet
  # max_clusters: 5

# two of them
experts:
  - {name: a, checkpoint: a.pt}   # zero-shot
  - {name: b, checkpoint: b.pt}
compute: {batch_size: 64}
"""


def test_sections_that_stay_keep_their_text_and_the_others_are_new():
    values = yaml.safe_load(JOB) | {"mixture": {"clusters": "exact"}, "incumbent": "b"}
    assert changed_text(JOB, values, "DaWin, exact\nby advise") == (
        "# DaWin, exact\n# by advise\n"
        + JOB.replace(
            "mixture:               # as in the paper\n  clusters: 3\n",
            "mixture: {clusters: exact}\n",
        )
        + "incumbent: b\n"
    )


def test_what_is_left_out_goes():
    values = yaml.safe_load(JOB)
    del values["compute"]
    assert changed_text(JOB, values) == JOB.replace("compute: {batch_size: 64}\n", "\n")


def test_nothing_changes_where_nothing_does():
    assert changed_text(JOB, yaml.safe_load(JOB)) == JOB


@pytest.mark.parametrize(
    "text",
    [
        "{run_dir: a, mixture: {clusters: 3}}",
        "run_dir: a\nmixture: &m {clusters: 3}\nbeside: *m\n",
        "run_dir: a\nmixture:\n  clusters: |\n    3\n  \n",
        "run_dir: a\nmixture:\n- 1\n-\n  - 2\n# end\nlast: 'x\n  y'\n",
        "run_dir: ü\r\nmixture: 3\r\nlast: 1\r\n",
        "run_dir: a\nmixture: 3",
        "run_dir: a\nmixture:\n",
    ],
)
@pytest.mark.parametrize("value", [{"clusters": "exact"}, None, [1, {"a": 2}], "text: 1"])
def test_however_it_was_written_it_says_what_it_should(text, value):
    values = yaml.safe_load(text) | {"mixture": value, "new": [1]}
    assert yaml.safe_load(changed_text(text, values)) == values
