"""What the method costs on this machine: the same as `dawin-ray bench`.

    python jobs/bench.py --out bench.json
    python jobs/bench.py --device cuda --sections models --batch 1024 \
        --precisions float32,tf32,bfloat16,float16 --out bench-cuda.json

The second line needs no Ray: torch, open_clip_torch and what this package imports beside it.
Expected on 2 cores of an AMD EPYC: see the README.
"""

from dawin_ray.cli import bench

if __name__ == "__main__":
    import typer

    typer.run(bench)
