"""Can images of unknown task be classified, with an expert and a head for each task?

    python jobs/studies/unknown_task.py JOB.yaml

JOB.yaml is a job of task experts over a base, in which each data set names its `expert` and has the
`head` of its task; its images are taken together, as a mixture whose task nobody tells. Every
sample is predicted with weights of its own (the exact mode), and is right where task and class are.

    known       entropies through the head of the image's own task, as DaWin has it
    union       entropies over the classes of all heads together
    own head    entropies of each expert through its own task's head
    over ln C   the same, divided by the log of the head's classes

Of the last three a head answers: that of the largest coefficient's expert, or (`of all`) the one of
the merged model's largest logit among all heads' classes. `only the head` lets the rule choose the
head, but takes the weights from `known`, as far as these can be told apart.

Shapes: N samples, M experts and as many tasks, C classes of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from dawin_ray.config import load_job
from dawin_ray.data import Chunk, DecodeImages
from dawin_ray.job.prepare import Prepared, prepare
from dawin_ray.method.coefficients import coefficients
from dawin_ray.method.expertise import entropy
from dawin_ray.models.experts import load_experts
from dawin_ray.passes.pixels import PixelFeed

BATCH = 256  # of a forward


class Mixture:
    """All images of a job's data sets, and what its models say of them."""

    def __init__(self, prepared: Prepared):
        """Scores every image with every expert, through every head."""
        self.spec = prepared.spec
        experts = load_experts(self.spec.model)
        self.names = [expert.name for expert in self.spec.model.experts]
        of_expert = {task.expert: task for task in self.spec.tasks.values()}
        self.tasks = [of_expert[name] for name in self.names]
        cpu = torch.device("cpu")
        models = [experts.classifier(state, cpu, torch.float32) for state in experts.states]
        self.merged = experts.samplewise(self.spec.scale)
        self.heads = [models[0].heads[task.head] for task in self.tasks]  # those of all models
        feed = PixelFeed(experts.preprocessing, cpu, torch.float32)
        parts, task_N, label_N = [], [], []
        for name, chunk in _chunks(prepared):
            parts += list(feed(chunk.images, [slice(0, len(chunk.images))]))
            expert = self.spec.tasks[name].expert
            assert expert is not None, "a job of task experts"
            task_N += [self.names.index(expert)] * len(chunk.images)
            label_N += chunk.labels
        self.task_N, self.label_N = np.array(task_N), np.array(label_N)
        self.pixels = torch.cat(parts)
        # by expert and by head: logits [N, C]
        self.logits = [self._through_heads(model, model) for model in models]

    def of_merged(self, coefficients_NM: np.ndarray) -> list[torch.Tensor]:
        """Logits [N, C] of each sample's own model, by head."""
        shares = torch.from_numpy(coefficients_NM.astype(np.float32))
        return self._through_heads(self.merged, self.merged.model, shares)

    def _through_heads(
        self, run: Callable[..., torch.Tensor], model: torch.nn.Module, *rows: torch.Tensor
    ) -> list[torch.Tensor]:
        """Logits [N, C] by head; the tower runs once, for what the first task's head is given."""
        first, given = self.tasks[0].head, []
        head = model.get_submodule(f"heads.{first}")
        hook = head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        for part in torch.arange(len(self.pixels)).split(BATCH):
            run(self.pixels[part], *(row[part] for row in rows), first)
        hook.remove()
        features = torch.cat(given)
        return [
            task.classes.project(head(features))
            for task, head in zip(self.tasks, self.heads, strict=True)
        ]


def _chunks(prepared: Prepared) -> Iterator[tuple[str, Chunk]]:
    size = prepared.job.compute.chunk_size
    decode = DecodeImages(prepared.preprocessing, size, prepared.spec.classes)
    for name, shards in prepared.shards.items():
        yield from ((name, chunk) for shard in shards for chunk in decode(shard))


def entropies_of(rule: str, given: Mixture) -> np.ndarray:
    """Nats (of `over ln C`, shares of the most that there can be) [N, M]."""
    rows, own = np.arange(len(given.task_N)), range(len(given.names))
    if rule == "known":
        by_head = [torch.stack([entropy(x) for x in of]).numpy() for of in given.logits]
        return np.stack([found[given.task_N, rows] for found in by_head], axis=1)
    if rule == "union":
        return torch.stack([entropy(torch.cat(of, dim=1)) for of in given.logits], dim=1).numpy()
    found = torch.stack([entropy(given.logits[m][m]) for m in own], dim=1).numpy()
    if rule == "own head":
        return found
    return found / np.log([task.classes.count for task in given.tasks])


def share(right_N: np.ndarray, task_N: np.ndarray) -> str:
    """In per cent, the mean over tasks."""
    return f"{100 * np.mean([right_N[task_N == t].mean() for t in np.unique(task_N)]):6.1f}"


@torch.inference_mode()
def main(job_file: str) -> None:
    """Print a line for each rule: how often the task, and task and class, are right."""
    given = Mixture(prepare(load_job(job_file)))
    rows, task_N = np.arange(len(given.task_N)), given.task_N
    known = given.of_merged(coefficients(-entropies_of("known", given)))
    print(f"{len(rows)} images of {len(given.names)} tasks; means over tasks, in per cent")
    print(f"{'rule':32}  task   right")
    for rule in ("known", "union", "own head", "over ln C"):
        c_NM = coefficients(-entropies_of(rule, given))
        merged = given.of_merged(c_NM)
        widths = [x.shape[1] for x in merged]
        widest = torch.cat(merged, dim=1).argmax(dim=1).numpy()
        of_all = np.searchsorted(np.cumsum(widths), widest, side="right")
        chosen = {"": task_N} if rule == "known" else {"": c_NM.argmax(axis=1), ", of all": of_all}
        answers = [(rule + how, head_N, merged) for how, head_N in chosen.items()]
        if rule != "known":
            answers.append((f"{rule}, only the head", c_NM.argmax(axis=1), known))
        for name, head_N, logits in answers:
            class_N = np.stack([x.argmax(dim=1).numpy() for x in logits])[head_N, rows]
            found_N = head_N == task_N
            right_N = found_N & (class_N == given.label_N)
            print(f"{name:32}{share(found_N, task_N)}  {share(right_N, task_N)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
