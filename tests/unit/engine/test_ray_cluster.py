"""The watch over a Ray that is used; nothing here starts Ray."""

import subprocess
import sys


def test_a_main_thread_that_no_signal_reaches_is_no_silent_end():
    script = (
        "import signal, sys, time\n"
        "from dawin_ray.engine import ray_cluster\n"
        "ray_cluster.WATCH_SECONDS, ray_cluster.SILENCE_SECONDS = 0.1, 0.2\n"
        "ray_cluster.PATIENCE_SECONDS = 0.5\n"
        "ray_cluster._Watch.ask = lambda watch: None\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "with ray_cluster._watch(own=False):\n"
        "    time.sleep(60)\n"
        "print('not reached')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("Error: Ray has broken down: its control store (GCS) has not")
    assert done.stderr.rstrip().endswith("once it is up.")
    assert not done.stdout
