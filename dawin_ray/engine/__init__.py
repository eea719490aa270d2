"""Passes over all shards: the only place where files, models and processes come together.

`Engine` is what a job asks for; Ray Data answers it over a cluster (`ray_*.py`, the only files that
import Ray), and `local.py` in this process. What a worker does with a chunk is the same for both
(`workers.py`). Imports data, passes and runs; job/ is what uses it.
"""

from dawin_ray.engine.compute import Chunks, ComputeConfig, Resources, Say, StorageOptions
from dawin_ray.engine.engine import Engine, engine_of
from dawin_ray.engine.local import gpus_here
from dawin_ray.engine.timing import Timing
from dawin_ray.engine.wiring import Finished, Wiring, message_bytes

__all__ = [
    "Chunks", "ComputeConfig", "Engine", "Finished", "Resources", "Say", "StorageOptions",
    "Timing", "Wiring", "engine_of", "gpus_here", "message_bytes",
]  # fmt: skip
