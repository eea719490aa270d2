"""Whether all nodes mean the same place by the run directory, before anything runs there.

A path that the nodes do not share, as any relative one below a job's working directory, would be
written on each of them, and read by none of the others.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial

from dawin_ray.engine import Engine, Resources
from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, is_local, join, read_bytes, write_whole

SHOWN_NODES = 8


@dataclass(frozen=True)
class Looked:
    """What a node has to say: why it could not use the place, or the file that it wrote there."""

    trouble: str = ""
    wrote: str = ""


def check_shared(run_dir: str, engine: Engine, on: Resources) -> None:
    """Every node reads there what this process writes, and this process what each of them does.

    Raises:
        UserError: not all do; the message says which, and why.
    """
    if on.nodes < 2:
        return
    fs, root = filesystem(run_dir, "run_dir")
    token = uuid.uuid4().hex
    ours = _name(token)
    write_whole(fs, join(root, ours), token.encode())
    written = [ours]
    try:
        looked = engine.each_node(partial(look, run_dir, token), on)
        written += [answer.wrote for answer in looked.values() if answer.wrote]
        troubles = {node: answer.trouble for node, answer in looked.items() if answer.trouble}
        troubles |= {
            node: "what it writes is not seen by the process that runs the job"
            for node, answer in looked.items()
            if answer.wrote and not _holds(run_dir, answer.wrote, token)
        }
    finally:
        for name in written:
            path = join(root, name)
            if fs.exists(path):
                fs.rm_file(path)
    if troubles:
        raise UserError(_words(run_dir, troubles, len(looked), local=is_local(fs)))


def look(run_dir: str, token: str) -> Looked:
    """On a node: read what the driver wrote, and write a file of one's own."""
    try:
        if not _holds(run_dir, _name(token), token):
            return Looked("it does not see what the process that runs the job writes there")
        fs, root = filesystem(run_dir, "run_dir")
        name = _name(uuid.uuid4().hex)
        write_whole(fs, join(root, name), token.encode())
    except UserError as error:
        return Looked(str(error))
    return Looked(wrote=name)


def _name(token: str) -> str:
    return f".shared.{token}.tmp"  # as other files that may be left behind and are nobody's


def _holds(run_dir: str, name: str, token: str) -> bool:
    fs, root = filesystem(run_dir, "run_dir")
    path = join(root, name)
    try:
        if not fs.exists(path):
            return False
    except Exception:  # noqa: BLE001, S110  (every client has its own: reading says more)
        pass
    return read_bytes(join(run_dir, name), "run_dir") == token.encode()


def _words(run_dir: str, troubles: dict[str, str], nodes: int, *, local: bool) -> str:
    lines = [f"  {node}: {why}" for node, why in list(troubles.items())[:SHOWN_NODES]]
    if len(troubles) > SHOWN_NODES:
        lines.append(f"  and {len(troubles) - SHOWN_NODES} more")
    remedy = (
        "Give a run_dir that all nodes share: a folder of a network file system, by its absolute "
        "path, or an address such as s3://bucket/run."
        if local
        else "Give all nodes the credentials and the network that the address needs."
    )
    return (
        f"The run_dir {run_dir!r} is not shared by {len(troubles)} of {nodes} nodes, and nothing "
        "was run:\n" + "\n".join(lines) + f"\n{remedy}"
    )
