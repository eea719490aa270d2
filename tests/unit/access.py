"""What a page must be for everybody, in a browser: axe-core's rules, and what it does not look at.

axe-core is one file of JavaScript that comes with one of PACKAGES; nothing else of them is used.
"""

import json
from functools import cache
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np

from tests.unit.view.browser import NAMES, Browser, executable

PACKAGES = ("axe_playwright_python", "axe_core_python")  # the newer rules first
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
SCRIPT = (Path(__file__).parent / "pictures.js").read_text()

CONTRAST = 4.5  # of text, WCAG 2.1, 1.4.3
SMALLEST = 9.0  # pixels of a letter's height that a picture may have on a phone
TOUCHING = 1.0  # pixels that boxes of texts may share: letters do not fill theirs


def axe() -> Path | None:
    """Where axe-core's one file is."""
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0]) / "axe.min.js"
    return None


@cache
def lacking() -> str:
    """Why pages cannot be looked at; empty where they can."""
    if executable() is None:
        return f"no Chromium ({', '.join(NAMES)}) is installed"
    return "" if axe() else f"axe-core is not installed ({' or '.join(PACKAGES)})"


def violations(browser: Browser) -> list[str]:
    """What axe-core finds in the page that is open: rule and element."""
    if not browser.run("typeof axe === 'object'"):
        browser.run(axe().read_text() + "; 0")
    options = json.dumps({"runOnly": LEVELS, "resultTypes": ["violations"], "elementRef": False})
    browser.run(
        f"window.found = null; axe.run(document, {options})"
        ".then(r => { window.found = r.violations }).catch(e => { window.found = String(e) }); 0"
    )
    browser.wait_until("window.found !== null")
    found = browser.run("window.found")
    assert isinstance(found, list), found
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def unfold(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true }); 0")


def pictures(browser: Browser) -> list[dict]:
    """The pictures that are seen, each with its texts, as `pictures.js` has them."""
    return browser.run(SCRIPT)


def unreadable(browser: Browser) -> list[str]:
    """Texts of pictures that are too pale, too small, cut off, or over each other."""
    found = []
    for picture in pictures(browser):
        label, texts = picture["label"][:40], [t for t in picture["texts"] if t["says"].strip()]
        for text in texts:
            if text["contrast"] < CONTRAST:
                found.append(f"{label}: {text['says']} has a contrast of {text['contrast']:.2f}")
            if text["size"] < SMALLEST:
                found.append(f"{label}: {text['says']} has {text['size']:.1f} px")
            if not text["inside"]:
                found.append(f"{label}: {text['says']} is cut off")
        found += [
            f"{label}: {one['says']} and {other['says']} are over each other"
            for one, other in combinations(texts, 2)
            if _touch(np.array(one["corners"]), np.array(other["corners"]))
        ]
    return found


def _touch(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rectangles [4, 2], turned as they are, share more than TOUCHING: no side of
    either is a line between them.
    """
    for side in (*np.diff(one[:3], axis=0), *np.diff(other[:3], axis=0)):
        a, b = (corners @ side / np.linalg.norm(side) for corners in (one, other))
        if min(a.max(), b.max()) - max(a.min(), b.min()) <= TOUCHING:
            return False
    return True
