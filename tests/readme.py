"""The READMEs as a test reads them: blocks, tables, listings, whatever text they stand in."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ["README.md", "cluster/**/*.md", "dawin_ray/**/*.md", ".github/*.md", "jobs/**/*.md"]
DOCS = {str(path.relative_to(ROOT)): path.read_text()
        for place in PLACES for path in sorted(ROOT.glob(place))}  # fmt: skip
README, CLUSTER = DOCS["README.md"], DOCS["cluster/README.md"]
# what `block`, `rows`, `listing` and `sentence` look through; studies have tables of their own
ALL = "\n\n".join(text for name, text in DOCS.items() if not name.startswith("jobs/"))


def blocks(language: str, text: str = ALL) -> list[str]:
    """Fenced blocks of a language ("" for none), in their order."""
    fenced = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    return [content for tag, content in fenced if tag == language]


def block(language: str, marker: str, text: str = ALL) -> str:
    """The one block of a language that holds a marker."""
    (found,) = [content for content in blocks(language, text) if marker in content]
    return found


def rows(heading: str, text: str = ALL) -> list[list[str]]:
    """Cells of the rows of the table whose heading begins so."""
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def listing(marker: str) -> list[str]:
    """Paths of a listing of the run directory, from `run_dir`; what is in words is left out."""
    cells = [c for line in block("", marker).splitlines() for c in re.split(r" {2,}", line)]
    paths = [cell.removeprefix("run_dir/") for cell in cells]
    return [path for path in paths if " " not in path and re.search(r"[./]", path)]


def sentence(start: str, text: str = ALL) -> str:
    """From some words of a text to the end of their paragraph, in one line."""
    return " ".join(text[text.index(start) :].split("\n\n")[0].split())
