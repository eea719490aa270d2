"""Example images: what is said of one, and which groups they are of."""

from dawin_ray.report.thumbnails import groups_of, title_of


def test_a_title_has_answer_and_weight_of_every_expert(finished, experts):
    columns = finished.columns("one")
    title = title_of(columns, 3, experts)
    assert title.startswith(f", label {columns.label[3]}; DaWin {columns.prediction['dawin'][3]}, ")
    answers, weights = title.split("; weights ")
    for i, name in enumerate(experts):
        assert f"{name} {columns.expert_prediction[3, i]}" in answers
        assert f"{name} {columns.coefficient[3, i]:.2f}" in weights
    assert "label" not in title_of(finished.columns("bare"), 3, experts)


def test_groups_are_clusters_and_outcomes(finished, experts):
    groups = groups_of(finished.columns("one"), experts)
    assert {"cluster 0", "cluster 1", "cluster 2"} < groups.keys()
    assert {"cluster 0", "cluster 1", "cluster 2"} == groups_of(
        finished.columns("bare"), experts
    ).keys()
