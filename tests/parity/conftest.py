"""The multi-task figures, of three and of eight experts."""

import pytest

from tests.parity.golden import Golden, golden


@pytest.fixture(scope="module", params=[3, 8], ids=["M3", "M8"])
def given(request, tmp_path_factory) -> Golden:
    found = golden(request.param, tmp_path_factory.mktemp("golden") / "files")
    if found is None:
        pytest.skip("the eight experts are in ../shared/golden/multitask only, which is not there")
    return found
