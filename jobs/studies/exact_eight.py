"""What does the exact mode cost with eight task experts, and what does a limit on the rank lose?

    python jobs/studies/exact_eight.py                           # ViT-B/32 on the CPU, all ranks
    python jobs/studies/exact_eight.py --rounds 1 --ranks 64     # 160 s on 2 cores
    python jobs/studies/exact_eight.py --device cuda --architecture ViT-L-14 --batch 256

Random weights: the time is that of trained ones, the agreement is not, as it depends on how fast
the singular values of the task vectors fall. Here they fall as 1 / i, and there are 64 of them.
The answer is in dawin_ray/method/samplewise/README.md.

Shapes: B batch, M experts, O and I outer and inner size of a layer.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch

from dawin_ray.bench import interleaved, machine, median_ratio
from dawin_ray.method import TASK_SCALE
from dawin_ray.method.samplewise.tensors import Symbol
from dawin_ray.models import (
    CHECKPOINT_HEAD,
    Classifier,
    Experts,
    ModelConfig,
    Precision,
    Preprocessing,
    create_model,
    matmul_mode,
    tower_dtype,
)

EXPERTS = 8
CLASSES = 100
DISTANCE = 0.1  # of an expert from the base, relative to the norm of each tensor
TRUE_RANK = 64
LOGIT_SCALE = 100.0
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def make_experts(architecture: str) -> Experts:
    """A random base, and experts at DISTANCE from it whose matrices' differences have TRUE_RANK."""
    torch.manual_seed(0)
    visual = create_model(ModelConfig(architecture=architecture)).visual.eval()
    skeleton = Classifier(visual, {CHECKPOINT_HEAD: (CLASSES, visual.output_dim)}).eval()
    base = {name: tensor.clone() for name, tensor in skeleton.state_dict().items()}
    weight = torch.randn(CLASSES, visual.output_dim)
    base[f"heads.{CHECKPOINT_HEAD}.weight"] = LOGIT_SCALE * torch.nn.functional.normalize(weight)
    base[f"heads.{CHECKPOINT_HEAD}.bias"] = torch.zeros(CLASSES)
    states = tuple(
        {
            name: tensor + difference(tensor) if name.startswith("visual.") else tensor
            for name, tensor in base.items()
        }
        for _ in range(EXPERTS)
    )
    preprocessing = Preprocessing.of(visual.preprocess_cfg)
    return Experts(skeleton=skeleton, states=states, base=base, preprocessing=preprocessing)


def difference(tensor: torch.Tensor) -> torch.Tensor:
    """A random task vector of a tensor."""
    if tensor.ndim == 2:
        left, right = torch.randn(len(tensor), TRUE_RANK), torch.randn(TRUE_RANK, tensor.shape[1])
        made = (left / torch.arange(1, TRUE_RANK + 1)) @ right
    else:
        made = torch.randn(tensor.shape)
    scaled: torch.Tensor = DISTANCE * tensor.norm() / made.norm() * made
    return scaled


def bytes_of(model: torch.nn.Module) -> int:
    """Of a model's weights, whose samplewise ones hold their parts."""
    held = [
        value
        for layer in model.modules()
        for value in {**vars(layer), **dict(layer.named_parameters(recurse=False)),
                      **dict(layer.named_buffers(recurse=False))}.values()
        if isinstance(value, torch.Tensor)
    ]  # fmt: skip
    parts = [
        part
        for value in held
        for part in (vars(value).values() if isinstance(value, Symbol) else [value])
        if isinstance(part, torch.Tensor)
    ]
    return sum(part.nbytes for part in parts)


@torch.inference_mode()
def main() -> None:
    """Time, agreement and memory for each precision and rank."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="*", default=[8, 16, 32, 64])
    given = parser.parse_args()
    device = torch.device(given.device)
    told = machine(given.device)
    print(
        f"{given.architecture}, M = {EXPERTS} over a base, batch {given.batch}, {told}", flush=True
    )
    experts = make_experts(given.architecture)
    pixels = torch.randn(given.batch, 3, *experts.preprocessing.size, device=device)
    shares = torch.distributions.Dirichlet(torch.ones(EXPERTS)).sample((given.batch,)).to(device)
    expected = None
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for precision in PRECISIONS:
        dtype = tower_dtype(precision)
        plain = experts.classifier(experts.states[0], device, dtype)
        for rank in [None, *given.ranks]:
            exact = experts.samplewise(TASK_SCALE, rank=rank, device=device, dtype=dtype)
            inputs = pixels.to(dtype)
            with matmul_mode(precision):
                logits = exact(inputs, shares, CHECKPOINT_HEAD).float()
                functions = {
                    "plain": partial(plain, inputs, CHECKPOINT_HEAD),
                    "exact": partial(exact, inputs, shares, CHECKPOINT_HEAD),
                }
                seconds = interleaved(functions, given.rounds, wait)
            expected = logits if expected is None else expected
            off = float((logits - expected).abs().max() / expected.abs().max())
            agree = 100 * float((logits.argmax(-1) == expected.argmax(-1)).float().mean())
            print(
                f"{precision:8} {'full rank' if rank is None else f'rank {rank}':9}: "
                f"{1e3 * statistics.median(seconds['exact']) / given.batch:8.2f} ms/image, "
                f"{median_ratio(seconds['exact'], seconds['plain']):5.2f} x one forward; weights "
                f"{bytes_of(exact) / 1e9:5.2f} GB; predictions {agree:5.1f} %, logits off "
                f"{off:.1e} of the largest, against float32 full rank",
                flush=True,
            )
            del exact, functions
    if device.type == "cuda":
        print(f"peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB", flush=True)
    else:
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        print(f"peak {peak / 1e9:.2f} GB, the experts' own weights included", flush=True)


if __name__ == "__main__":
    main()
