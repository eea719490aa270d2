"""The job file that does what is recommended: the job's own, with some of its keys changed.

Sections that stay keep their text, comments among it; those that change are written anew, and new
ones come at the end. Where a file cannot be taken apart so, as one with anchors, all of it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

# Room for a line of YAML before it is folded.
WIDTH = 100


def changed_text(text: str, values: Mapping[str, Any], header: str = "") -> str:
    """A YAML mapping as text, with the same top-level keys as before but for those that differ.

    `values` are all that it is to hold; keys that it has and `values` have not are left out.
    `header` becomes a comment above it, a line each.
    """
    head = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    try:
        found = _rewritten(text, values)
        if found is not None and yaml.safe_load(found) == dict(values):
            return head + found
    except yaml.YAMLError:
        pass  # what stayed leans on what went
    return head + _dumped(values)


def _rewritten(text: str, values: Mapping[str, Any]) -> str | None:
    """With only what differs written anew; None where that cannot be told apart."""
    root, before = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    if not isinstance(root, yaml.MappingNode) or root.flow_style or not isinstance(before, dict):
        return None
    pieces, at = [], 0
    for key, value in root.value:
        start, end, name = key.start_mark.index, _end(value), key.value
        if name in values and before.get(name) == values[name]:
            continue
        pieces.append(text[at:start])
        if name in values:
            pieces.append(_dumped({name: values[name]}).rstrip("\n"))
        at = end
    pieces.append(text[at:])
    whole = "".join(pieces)
    if added := {name: value for name, value in values.items() if name not in before}:
        whole = whole.rstrip("\n") + "\n" + _dumped(added)
    return whole


def _end(node: yaml.Node) -> int:
    """Behind the last character of a value; a block's own end is where the next key begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    return end


def _dumped(values: Mapping[str, Any]) -> str:
    """A section after the other, what is innermost in them on one line."""

    def dumped(name: str, value: Any) -> str:
        inner = None if isinstance(value, dict | list) else False
        text: str = yaml.safe_dump(
            {name: value}, sort_keys=False, width=WIDTH, allow_unicode=True,
            default_flow_style=inner,
        )  # fmt: skip
        return text

    return "".join(dumped(name, value) for name, value in values.items())
