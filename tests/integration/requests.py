"""What a run asks of a storage in memory, and whether its driver does or one of its tasks."""

import re
import threading
from functools import wraps

from fsspec.implementations.memory import MemoryFileSystem

from dawin_ray.engine.local import LocalEngine
from dawin_ray.engine.workers import Worker
from dawin_ray.runs.work import Work

KINDS = {
    "cat_file": "read", "pipe_file": "write", "_open": "open", "exists": "look", "info": "look",
    "ls": "list", "find": "list", "rm_file": "delete",
}  # fmt: skip

CHUNK = re.compile(r"/work/(experts|predictions|rejects)/[^/]+/[^/]+/[^/]+\.parquet$")


class Requests(list):
    """Requests of a storage in memory as (kind, path, whether a task asks), the outermost alone."""

    def __init__(self, patch):
        self.one = threading.RLock()
        self.here = threading.local()  # marks are written by threads beside workers
        for name, kind in KINDS.items():
            patch.setattr(
                MemoryFileSystem, name, self.counted(kind, getattr(MemoryFileSystem, name))
            )
        patch.setattr(LocalEngine, "map", lambda _, task, items, on: map(self.working(task), items))
        patch.setattr(Worker, "score", self.working(Worker.score))
        patch.setattr(Work, "chunks", self.working(Work.chunks))  # readers ask for them

    def counted(self, kind, method):
        @wraps(method)
        def counting(fs, path, *args, **kwargs):
            if getattr(self.here, "inside", False):
                return method(fs, path, *args, **kwargs)
            self.here.inside = True
            try:
                self.append((kind, path, getattr(self.here, "on_worker", False)))
                with self.one:  # fsspec's dictionary of files is for one thread
                    return method(fs, path, *args, **kwargs)
            finally:
                self.here.inside = False

        return counting

    def working(self, task):
        def task_of_worker(*args):
            before = getattr(self.here, "on_worker", False)
            self.here.on_worker = True
            try:
                return task(*args)
            finally:
                self.here.on_worker = before

        return task_of_worker
