"""What differs on a GPU: the copy stream, and each mode's agreement with the CPU in float32."""

import numpy as np
import pytest
import torch

from dawin_ray.bench import BenchConfig
from dawin_ray.bench.models import Modes, make_experts
from dawin_ray.models.precision import matmul_mode
from dawin_ray.passes.pixels import PixelFeed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def experts(small):
    return make_experts(BenchConfig(architecture=small.config))


def test_the_copy_stream_delivers_every_batch_whole_and_in_order(experts):
    crops = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    rows = [slice(i, i + 16) for i in range(0, 64, 16)]
    feeds = [
        list(PixelFeed(experts.preprocessing, torch.device(device), torch.float32)(crops, rows))
        for device in ("cpu", "cuda")
    ]
    for on_cpu, on_gpu in zip(*feeds, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu)


@torch.inference_mode()
def test_the_exact_mode_agrees_with_the_cpu(experts):
    pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = []
    for device in ("cpu", "cuda"):
        modes = Modes(experts, "float32", torch.device(device))
        with matmul_mode("float32"):
            logits.append(modes.exact_job(pixels.to(device)).cpu())
    # logits of scale 100: float32 sums in another order
    torch.testing.assert_close(logits[1], logits[0], atol=1e-2, rtol=1e-4)
