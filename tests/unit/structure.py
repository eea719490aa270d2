"""What is wrong with a page's structure, as far as its text tells: no browser is needed."""

from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "img", "br", "input", "hr"}
ONCE = ("main", "h1", "title")
ACTIVE = {"script", "iframe", "object", "embed"}


def wrong(text: str) -> list[str]:
    """Everything, in words."""
    page = _Page()
    page.feed(text)
    page.close()
    return page.wrong + page.of_the_whole()


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.wrong: list[str] = []
        self.around: list[tuple[str, dict]] = []  # elements that are open, and their attributes
        self.ids, self.tags = Counter(), Counter()
        self.headings, self.links, self.lang = [], [], None

    def handle_starttag(self, tag, attrs):
        self.element(tag, dict(attrs))
        if tag not in VOID:
            self.around.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.element(tag, dict(attrs))

    def handle_endtag(self, tag):
        if not self.around or self.around[-1][0] != tag:
            self.say(f"</{tag}>", f"closes {self.around[-1:]}")
        else:
            self.around.pop()

    def say(self, what: str, why: str) -> None:
        self.wrong.append(f"{what} in line {self.getpos()[0]} {why}")

    def element(self, tag: str, has: dict) -> None:
        if not self.within("svg"):
            self.tags[tag] += 1
        self.ids.update([has["id"]] if "id" in has else [])
        if tag == "html":
            self.lang = has.get("lang")
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))
        if tag == "a" and (has.get("href") or "").startswith("#"):
            self.links.append(has["href"][1:])
        if tag == "th" and has.get("scope") not in ("col", "row"):
            self.say("<th>", "has no scope")
        if tag == "img" and not has.get("alt"):
            self.say("<img>", "has no text in its place")
        named = has.get("role") == "img" and has.get("aria-label")
        if tag == "svg" and not named and has.get("aria-hidden") != "true":
            self.say("<svg>", "has no name")
        if tag == "table" and not any(a.get("class") == "scroll" for _, a in self.around):
            self.say("<table>", "cannot be wider than the page")
        if has.get("class") == "scroll" and not (
            has.get("tabindex") == "0" and has.get("role") == "region" and has.get("aria-label")
        ):
            self.say(f"<{tag}>", "scrolls, but not with the keyboard, or has no name")

    def within(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.around)

    def of_the_whole(self) -> list[str]:
        found = [f"{self.tags[tag]} of <{tag}>" for tag in ONCE if self.tags[tag] != 1]
        found += [f"a <{tag}>" for tag in ACTIVE if self.tags[tag]]
        found += [f"id {name} is there twice" for name, count in self.ids.items() if count > 1]
        found += [f"#{name} leads nowhere" for name in self.links if name not in self.ids]
        found += [f"<h{b}> follows <h{a}>" for a, b in pairwise(self.headings) if b > a + 1]
        found += [] if self.lang else ["no language"]
        found += [] if self.headings[:1] == [1] else ["the first heading is no <h1>"]
        return found + [f"<{tag}> is not closed" for tag, _ in self.around]
