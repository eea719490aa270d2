"""README.md and cluster/README.md as a test reads them: sections, blocks, tables, listings."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CLUSTER = (ROOT / "cluster" / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next."""
    return re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README)[1]


def blocks(language: str, text: str = README) -> list[str]:
    """Fenced blocks of a language ("" for none), in their order."""
    fenced = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    return [content for tag, content in fenced if tag == language]


def block(language: str, marker: str, text: str = README) -> str:
    """The one block of a language that holds a marker."""
    (found,) = [content for content in blocks(language, text) if marker in content]
    return found


def rows(heading: str, text: str = README) -> list[list[str]]:
    """Cells of the rows of the table whose heading begins so."""
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def listing(marker: str) -> list[str]:
    """Paths of a listing of the run directory, from `run_dir`; what is in words is left out."""
    cells = [c for line in block("", marker).splitlines() for c in re.split(r" {2,}", line)]
    paths = [cell.removeprefix("run_dir/") for cell in cells]
    return [path for path in paths if " " not in path and re.search(r"[./]", path)]


def sentence(start: str, text: str = README) -> str:
    """From some words of a text to the end of their paragraph, in one line."""
    return " ".join(text[text.index(start) :].split("\n\n")[0].split())
