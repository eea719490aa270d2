"""Finished runs of two, three and eight experts."""

import pytest

from dawin_ray.report.audit import audit
from dawin_ray.report.finished import FinishedRun
from tests.unit.report.made import EXPERTS, LABELLED, write_run


@pytest.fixture(scope="package", params=EXPERTS)
def experts(request) -> list[str]:
    return EXPERTS[request.param]


@pytest.fixture(scope="package")
def run(experts, tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "run"
    return write_run(root, experts, LABELLED, in_distribution="inside")


@pytest.fixture(scope="package")
def finished(run) -> FinishedRun:
    return FinishedRun.of(run)


@pytest.fixture(scope="package")
def found(finished):
    return audit(finished)
