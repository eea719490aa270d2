"""One run at a time in a run directory.

On a local file system the lock is the operating system's (`flock`) and ends with the process,
however it ends. Elsewhere it is a lease: an object that its owner renews, and that others may take
over once they have watched it for LEASE_SECONDS, by their own clock, without its being renewed. No
clock is compared with another machine's.

On a store with conditional writes (S3) each write of the lease has a condition, so that two never
have it. On others whoever wants it puts a flag of its own beside it first and goes on if there is
no other flag; then it is taken, and after SETTLE_SECONDS it must still be one's own. There a holder
that could not renew it for LEASE_SECONDS gives it up, as another may have it by then.

A holder that has lost its lease must stop before it writes again, and so must its workers: that is
the `Fence`, which every write of a run passes. The process that renews the lease knows its state;
others look at the object, and again when their last look is older than the fence's `window`.
Whoever takes over a lease waits for as long before it writes. What is left: a write that was on its
way when its machine stood still arrives late, as no store compares tokens.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawin_ray.errors import UserError
from dawin_ray.stopping import undisturbed
from dawin_ray.storage.files import filesystem, is_local, join, write_whole
from dawin_ray.storage.objects import StoredObject, objects_of

try:  # seconds that nobody sets and that go on while the machine sleeps
    from time import CLOCK_BOOTTIME, clock_gettime

    def _now() -> float:
        return clock_gettime(CLOCK_BOOTTIME)
except ImportError:  # not Linux
    from time import monotonic as _now

logger = logging.getLogger(__name__)

LOCK = ".lock"  # the lease, and the beginning of the names of flags beside it

RENEWAL_SECONDS = 20.0

# A lease that was not renewed for so long is its dead owner's. Several renewals may fail before.
LEASE_SECONDS = 120.0

# Between taking a lease and believing it: whoever took it at the same time has written by then.
SETTLE_SECONDS = 2.0

TRIES = 20  # at a lease that others take and leave meanwhile

_held: dict[str, _Lease] = {}  # this process's, by their ids

_seen: dict[str, float] = {}  # when another process's lease was last found to be its


@dataclass(frozen=True)
class Fence:
    """What a write to a run directory passes: whether the run still holds its lease.

    Cheap to pickle; in a worker it looks at the store at most once in `window` seconds.
    """

    run_dir: str
    id: str
    window: float

    def check(self, *, closely: bool = False) -> None:
        """Nothing, as long as the lease is held; `closely` asks the store in any case.

        Raises:
            UserError: another run may hold it by now.
        """
        if (lease := _held.get(self.id)) is not None:
            lease.check(closely)
            return
        at = _now()
        if closely or at - _seen.get(self.id, -self.window) >= self.window:
            fs, root = filesystem(self.run_dir)
            _check_id(StoredObject(fs, join(root, LOCK)), self.id, self.run_dir)
            _seen[self.id] = at


@contextmanager
def exclusive(run_dir: str) -> Iterator[Fence | None]:
    """Hold the run directory's lock; the value is the fence of its writes, where it needs one.

    Raises:
        UserError: another run holds it; the message says which. Or, at the end, it was lost.
    """
    fs, root = filesystem(run_dir, "run_dir")
    owner = {
        "host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T %z"),
        "id": uuid.uuid4().hex,
    }  # fmt: skip
    if is_local(fs):
        with _flock(Path(root), owner, run_dir):
            yield None
    else:
        lease = _Lease(fs, root, owner, run_dir)
        with lease.hold():
            yield lease.fence


def _taken(run_dir: str, owner: dict[str, Any]) -> UserError:
    return UserError(
        f"Another run writes to the run_dir {run_dir!r}: process {owner.get('pid', 'unknown')} on "
        f"{owner.get('host', 'an unknown host')}, since {owner.get('since', 'an unknown time')}. "
        "Wait for it or stop it, or give another run_dir."
    )


def _lost(run_dir: str, owner: dict[str, Any] | None = None) -> UserError:
    by = f", and process {owner.get('pid')} on {owner.get('host')} has it now" if owner else ""
    return UserError(
        f"This run has lost the run_dir {run_dir!r}: its lease was not renewed for "
        f"{LEASE_SECONDS:g} s{by}. It has stopped before it could write again. Once no other run "
        "works there, run the same command again: the work done is kept."
    )


def _check_id(lease: StoredObject, own: str, run_dir: str) -> None:
    found = lease.read()
    owner = {} if found is None else _parsed(found[0])
    if owner.get("id") != own:
        raise _lost(run_dir, owner or None)


@contextmanager
def _flock(root: Path, owner: dict[str, Any], run_dir: str) -> Iterator[None]:
    made = not root.exists()
    path = root / LOCK
    try:
        handle = _open_lock(path)
    except OSError as error:
        raise UserError(
            f"The run_dir {run_dir!r} cannot be written: {error}. Give another run_dir."
        ) from error
    try:
        handle.seek(0)
        if not _locked(handle):
            raise _taken(run_dir, _parsed(handle.read()))
        handle.truncate(0)
        handle.write(json.dumps(owner))
        handle.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: see _open_lock
            if made and root.is_dir() and not any(root.iterdir()):
                root.rmdir()
    finally:
        handle.close()


def _open_lock(path: Path) -> Any:
    """The lock file, locked if it is free. One that its holder deleted meanwhile does not count."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(path, "a+")  # noqa: SIM115  (the caller's: the lock is the handle's)
        except FileNotFoundError:
            continue  # its holder deleted the folder meanwhile, as nothing else was in it
        if not _locked(handle):
            return handle
        try:
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        handle.close()


def _locked(handle: Any) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _Lease:
    """A lease that this process wants or has."""

    def __init__(self, fs: Any, root: str, owner: dict[str, Any], run_dir: str):
        """Touches nothing yet."""
        self.fs, self.root, self.owner, self.run_dir = fs, root, owner, run_dir
        self.object = StoredObject(fs, join(root, LOCK))
        self.flag = StoredObject(fs, join(root, f"{LOCK}.{owner['id']}"))
        # several renewals fit into a lease, whatever the two are set to
        self.interval = min(RENEWAL_SECONDS, LEASE_SECONDS / 3)
        self.fence = Fence(run_dir=run_dir, id=owner["id"], window=self.interval)
        self.version, self.renewed, self.renewals = "", 0.0, 0
        self.lost = self.conditional = False
        self.mutex = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Take it, renew it meanwhile, and give it back."""
        try:
            self._take()
        except KeyboardInterrupt:
            with undisturbed():
                self._give_back()
            raise
        _held[self.owner["id"]] = self
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self.interval):
                try:
                    self._renew()
                except UserError:
                    continue  # tried again at the next renewal; the lease lasts for several

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with undisturbed():
                done.set()
                thread.join()
                del _held[self.owner["id"]]
                self._give_back()
        if self.lost:
            raise _lost(self.run_dir)

    def _give_back(self) -> None:
        try:
            if not self.lost and self._is_ours():
                self.object.remove()
        except UserError as error:  # what the run ended with is to be told, and not this
            logger.warning("the lease could not be given back, and ends by itself: %s", error)

    def check(self, closely: bool) -> None:
        """As `Fence.check`."""
        age = _now() - self.renewed
        if age > LEASE_SECONDS and not self._is_too_old():
            self._renew()  # where its condition is met, nobody had it meanwhile
        if self.lost:
            raise _lost(self.run_dir)
        if closely or age > 2 * self.interval:
            try:
                _check_id(self.object, self.owner["id"], self.run_dir)
            except UserError:
                self.lost = self.lost or not self._is_ours()
                raise

    def _take(self) -> None:
        for _ in range(TRIES):
            found = self.object.read()
            if found is not None and not self._is_dead(*found):
                continue  # it was given back meanwhile
            try:
                if not self._is_flagged():
                    continue
                data = self._data()
                if found is None:
                    version = self.object.create(data, write_whole)
                else:
                    version = self.object.replace(data, found[1], write_whole)
                if version is None:
                    continue  # another one was faster
                # a dead owner's workers look at the lease once in a window
                time.sleep(SETTLE_SECONDS + (0 if found is None else self.fence.window))
                if not self._is_ours():
                    break
                self.version, self.renewed = version, _now()
                self._renew()
                if self.lost:
                    break
                return
            finally:
                self.flag.remove()
        found = self.object.read()
        raise _taken(self.run_dir, {} if found is None else _parsed(found[0]))

    def _is_dead(self, data: bytes, version: str) -> bool:
        """Watch another one's lease: whether it stays as it is; False where it is given back.

        Raises:
            UserError: it is renewed.
        """
        owner = _parsed(data)
        if owner.get("id") in _held:
            raise _taken(self.run_dir, owner)
        logger.warning(
            "the run_dir %s is held by process %s on %s: waiting for up to %g s; unless that one "
            "renews its lease meanwhile it is dead, and this run goes on",
            self.run_dir, owner.get("pid"), owner.get("host"), LEASE_SECONDS,
        )  # fmt: skip
        return self._stays(self.object, version, renewed_is_fine=False)

    def _stays(self, other: StoredObject, version: str, *, renewed_is_fine: bool) -> bool:
        begun = _now()
        while _now() - begun < LEASE_SECONDS:
            time.sleep(min(self.interval / 4, LEASE_SECONDS / 10, 2.0))
            now = other.version()
            if now is None or (now != version and renewed_is_fine):
                return False
            if now != version:
                found = other.read()
                raise _taken(self.run_dir, {} if found is None else _parsed(found[0]))
        return True

    def _is_flagged(self) -> bool:
        """Whether nobody else is about to take the lease, as far as that must be asked."""
        data = self._data()
        self.conditional = self.flag.heeds_conditions(data)
        if self.conditional:
            return True
        logger.warning(
            "the store of %s heeds no conditional writes: a run that stood still for longer than "
            "%g s may have a write arrive after another run has begun", self.run_dir, LEASE_SECONDS,
        )  # fmt: skip
        write_whole(self.fs, self.flag.path, data)
        others = objects_of(self.fs, self.root, f"{LOCK}.")
        others = [other for other in others if other.path != self.flag.path]
        if not others:
            return True
        self.flag.remove()  # both may: then the one that comes back first is alone
        version = others[0].version()
        if version is not None and self._stays(others[0], version, renewed_is_fine=True):
            others[0].remove()  # of one that died while it wanted the lease
        else:
            time.sleep(random.random() * SETTLE_SECONDS)
        return False

    def _renew(self) -> None:
        with self.mutex:
            begun = _now()
            if self.lost or self._is_too_old():
                return
            version = self.object.replace(self._data(), self.version, write_whole)
            if version is None:
                self.lost = True
            elif not self._is_too_old():
                self.version, self.renewed = version, begun

    def _is_too_old(self) -> bool:
        """Where no condition tells, a lease that could have been taken over is given up."""
        if not self.conditional and _now() - self.renewed > LEASE_SECONDS:
            self.lost = True
        return self.lost

    def _is_ours(self) -> bool:
        found = self.object.read()
        return found is not None and _parsed(found[0]).get("id") == self.owner["id"]

    def _data(self) -> bytes:
        """The owner, with what makes each renewal another; the time is for a person to read."""
        self.renewals += 1
        now = {"renewals": self.renewals, "renewed": time.time()}
        return json.dumps(self.owner | now).encode()


def _parsed(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
