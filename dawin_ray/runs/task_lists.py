"""What readers are to read, where it is too long for a message: only where it stands is sent.

    work/tasks/<pass>-00000    texts, each compressed, one after the other

The names of a folder's images are some 35 kB for each 512: sent, the driver would hold all of them
a second time, and Ray a third time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable

from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import TASKS
from dawin_ray.storage import join, unreadable

SHORT = 2_000  # characters that are sent as they are

LIST_BYTES = 4 << 20  # of a file

FAST = 1  # level of zlib: the names of a folder's images become a fifth


def sent_of(run: RunFolder, stage: str, texts: Iterable[str]) -> list[str]:
    """What is sent for each of a pass's texts: itself, or where it is kept; then it is there."""
    sent, content, files = [], bytearray(), 0
    for text in texts:
        if len(text) <= SHORT:
            sent.append(json.dumps(text))
            continue
        piece = zlib.compress(text.encode(), FAST)
        if content and len(content) + len(piece) > LIST_BYTES:
            run.write(run.path(_file(stage, files)), bytes(content))
            content, files = bytearray(), files + 1
        place = [_file(stage, files), len(content), len(content) + len(piece)]
        sent.append(json.dumps(place))
        content += piece
    if content:
        run.write(run.path(_file(stage, files)), bytes(content))
    return sent


def text_of(run: RunFolder, sent: str) -> str:
    """The text that `sent_of` made this of.

    Raises:
        UserError: it cannot be read.
    """
    written = json.loads(sent)
    if isinstance(written, str):
        return written
    name, begin, end = written
    fs, path = run.path(name)
    try:
        return zlib.decompress(fs.cat_file(path, start=begin, end=end)).decode()
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(join(run.address, name), "list of tasks", error) from error


def _file(stage: str, number: int) -> str:
    return join(TASKS, f"{stage}-{number:05d}")
