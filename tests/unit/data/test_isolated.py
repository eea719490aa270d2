"""One image may end, hang or starve the process that decodes it, and no other image is lost."""

import signal

import numpy as np
import pytest

from dawin_ray.data import isolated
from dawin_ray.data.images import ImageDecoder
from dawin_ray.data.isolated import OwnProcess
from dawin_ray.models.preprocessing import Preprocessing
from tests.conftest import make_images
from tests.unit.data.decoders import Fatal


@pytest.fixture(scope="module")
def preprocessing():
    return Preprocessing.of({"size": (32, 32)})


@pytest.fixture(scope="module")
def own(preprocessing):
    """One for all tests: each start of its process imports PyTorch."""
    with OwnProcess(Fatal(preprocessing)) as process:
        yield process


def test_crops_and_reasons_are_those_of_this_process(own, preprocessing):
    decoder = ImageDecoder(preprocessing)
    images = [*make_images(6), b"no image", b""]
    for border in (0, 2):
        for image in images:
            here, there = decoder(image, border), own(image, border)
            if isinstance(here, str):
                assert there == here
            else:
                assert np.array_equal(there, here)


def test_what_ends_the_process_is_named_and_the_next_image_is_decoded(own, preprocessing):
    image = make_images(1)[0]
    decoder = Fatal(preprocessing)
    assert own(b"signal 11") == "killed the process that decoded it (signal 11, SIGSEGV)"
    assert np.array_equal(own(image), decoder(image))
    assert "out of memory" in own(b"signal 9")
    assert own(b"noise") == "printed"  # none of which is taken for an answer
    assert own(b"surrogate") == "cannot \\udcff"
    assert np.array_equal(own(image), decoder(image))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS])
def test_any_signal_is_named(own, number):
    reason = own(b"signal %d" % number)
    assert reason.startswith(f"killed the process that decoded it (signal {int(number)}")


def test_memory_is_bounded_beside_what_the_libraries_take(own):
    """An array of the bound is refused, whatever the machine has."""
    assert "exit code 1" in own(b"memory")  # an error that this decoder does not catch


def test_an_image_that_takes_for_ever_is_given_up(own, preprocessing, monkeypatch):
    image, decoder = make_images(1)[0], Fatal(preprocessing)
    assert np.array_equal(own(image), decoder(image))
    monkeypatch.setattr(isolated, "MAX_SECONDS", 1.0)
    assert own(b"hang") == "cannot be decoded within 1 s"
    monkeypatch.undo()
    assert np.array_equal(own(image), decoder(image))


def test_the_process_ends_with_its_parent(own):
    with own:
        own(make_images(1)[0])
        child = own.child
    assert child.poll() is not None
