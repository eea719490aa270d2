"""What Ray raises, in plain words; nothing here starts Ray."""

import pytest

from dawin_ray.engine.ray_errors import told_plainly
from dawin_ray.errors import RayLostError, UserError


def died(text: str, *, init_failed: bool) -> Exception:
    """Of an actor, of whose error Ray has kept the text."""
    from ray.exceptions import ActorDiedError

    error = ActorDiedError()
    error.error_msg, error._actor_init_failed = text, init_failed
    return error


CREATION = (
    "The actor died because of an error raised in its creation task, ray::RayWorker.__init__() "
    "(pid=7, ip=10.0.0.5, actor_id=1)\nTraceback (most recent call last):\n{last}\n"
)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("ModuleNotFoundError: No module named 'open_clip.model'",
         "^The node 10.0.0.5 has no package that has the module 'open_clip.model'. Install"),
        ("dawin_ray.errors.UserError: Cannot read the model config 'x': it does not exist.",
         "^The node 10.0.0.5 could not start a model actor: Cannot read the model config 'x'"),
        ("OSError: [Errno 28] No space left", r"model actor: OSError: \[Errno 28\]"),
    ],
)  # fmt: skip
def test_an_actor_that_could_not_begin_says_why(last, words):
    with pytest.raises(UserError, match=words), told_plainly():
        raise RuntimeError from died(CREATION.format(last=last), init_failed=True)


def test_a_task_that_could_not_be_unpickled_says_what_is_missing():
    from ray.exceptions import RaySystemError

    words = "A node has no package that has the module 's3fs'"
    with pytest.raises(UserError, match=words), told_plainly():
        raise RaySystemError("System error: No module named 's3fs'")


def test_an_actor_that_died_later_is_rays_loss():
    with pytest.raises(RayLostError, match="Ray gave the run up"), told_plainly():
        raise died("The actor died unexpectedly before finishing this task.", init_failed=False)
