"""The pages in a browser, for everybody: light and dark, at a desk, on a phone and on paper."""

from dataclasses import replace

import pytest

from dawin_ray.report import page
from dawin_ray.report.audit import audited
from dawin_ray.report.doubts import Doubt
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.overview import overview_of, overview_words
from dawin_ray.report.tally import Report
from dawin_ray.report.thumbnails import Said, Sheet, Thumbnail
from tests.unit.access import lacking, pictures, unfold, unreadable, violations
from tests.unit.report.made import (
    EXPERTS,
    drift_of,
    drift_record,
    report_record,
    write_run,
    write_tasks,
)
from tests.unit.view.browser import Browser

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())

WIDTHS = {"desk": 1280, "phone": 390}
PAPER = 718  # pixels of A4 between its margins

# each scheme, width and state, in the fewest looks; with -m slow, all of them
FEW = {("light", "phone", True), ("dark", "desk", False)}
LOOKS = [
    pytest.param(*look, marks=() if look in FEW else pytest.mark.slow)
    for scheme in ("light", "dark")
    for width in WIDTHS
    for unfolded in (False, True)
    for look in [(scheme, width, unfolded)]
]

HOSTILE = "<img src=x onerror=alert(1)>\n\x1b[31m\u202egnp.exe {{ 7 * 7 }}"
LONG = [f"an_expert_whose_name_is_as_long_as_a_path_of_a_checkpoint_{i}" for i in range(8)]

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


def with_everything(root) -> str:
    """A page that has all that a page can have, of hostile names as far as data bring them."""
    labelled = {"inside": True, "one": True, "two": True, "bare": False}
    few = {"oracle": True}  # axe-core looks at each cell of each table
    run = write_run(root / "run", EXPERTS[2], labelled, in_distribution="inside", baselines=few)
    whole = audited(FinishedRun.of(run))
    doubt = Doubt(dataset="one", kind="flat", says=HOSTILE, todo=HOSTILE)
    said = tuple(
        Said(name=name, answer=HOSTILE, confidence=0.5, right=right)
        for name, right in zip(("DaWin", *EXPERTS[2]), (True, False, None), strict=True)
    )
    image = Thumbnail(uri=PIXEL, sample_id=HOSTILE, label=HOSTILE, said=said, weights="a 1.00")
    sheets = {"one": [Sheet(group="nobody right", images=(image, image))]}
    drift = {"one": drift_record(EXPERTS[2])}
    report = replace(Report.read(run), drift=drift)
    found = replace(whole.audit, doubts=(doubt,))
    named = {"one": replace(whole.by_class["one"], names=[HOSTILE] * 5)}
    return page.page_of(found, report, HOSTILE, {"made of": HOSTILE}, sheets, named)


def with_long_names(root, count: int) -> str:
    """Eight experts, and data sets as many, whose names are longer than there is room."""
    sets = {f"a_data_set_with_a_name_of_some_length_{i}": i > 0 for i in range(count)}
    tasks = dict(zip(sets, LONG, strict=False))
    run = write_run(root / "run", LONG, sets, tasks=tasks, in_distribution=list(sets)[1])
    page.write_page(run)
    return run.read_text("report.html")


def of_batches() -> str:
    """The page of a directory that grows."""
    drift = {"set": drift_of(EXPERTS[3], alarm=True)}
    reports = [
        report_record(EXPERTS[3], {"set": True}, batch=f"2026-11-2{day}T0600", drift=drift)
        for day in range(3)
    ]
    return overview_of(reports, HOSTILE, overview_words(reports))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser"), 1280, 900) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the page with everything."""
    root = tmp_path_factory.mktemp("everything")
    (root / "report.html").write_text(with_everything(root))
    return f"file://{root}/report.html"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Of the one with long names."""
    root = tmp_path_factory.mktemp("long")
    (root / "report.html").write_text(with_long_names(root, 4))
    return f"file://{root}/report.html"


def look(browser: Browser, address: str, scheme: str = "light", width: str = "desk") -> None:
    browser.console.clear()
    browser.requests.clear()
    browser.resize(WIDTHS[width])
    browser.show_as(scheme)
    browser.open(address)


def fits(browser: Browser) -> bool:
    return browser.run("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("scheme", "width", "unfolded"), LOOKS)
def test_axe_core_finds_nothing(browser, address, scheme, width, unfolded):
    look(browser, address, scheme, width)
    if unfolded:
        unfold(browser)
    assert violations(browser) == []
    assert fits(browser)
    assert not browser.console
    assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_long_names_of_many_cover_nothing(browser, crowded, scheme, width):
    look(browser, crowded, scheme, width)
    assert fits(browser)
    assert len(pictures(browser)) > 10
    assert unreadable(browser) == []


@pytest.mark.parametrize("which", ["address", "crowded"])
def test_on_paper_all_is_unfolded_and_whole(browser, which, request):
    look(browser, request.getfixturevalue(which))
    browser.resize(PAPER)
    browser.show_as("dark", media="print")
    hidden = "[...document.querySelectorAll('details *')].filter(e => !e.checkVisibility("
    hidden += "{contentVisibilityAuto: true})).map(e => e.outerHTML.slice(0, 80))"
    assert browser.run(hidden) == []
    wide = "[...document.querySelectorAll('table, svg')].filter(e => e.getBoundingClientRect()"
    wide += f".right > {PAPER} + 1).map(e => e.outerHTML.slice(0, 80))"
    assert browser.run(wide) == []
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    sizes = "[...document.querySelectorAll('table *')].map(e => getComputedStyle(e).fontSize)"
    assert set(browser.run(sizes)) == {"7.5px"}


def test_a_wide_table_scrolls_with_the_keys(browser, crowded):
    look(browser, crowded, width="phone")
    browser.run("document.querySelector('.scroll').focus()")
    assert browser.run("document.activeElement.getAttribute('aria-label')") == "Suite"
    browser.press("ArrowRight")
    browser.wait_until("document.querySelector('.scroll').scrollLeft > 0")


def test_hostile_names_are_text(browser, address):
    look(browser, address)
    unfold(browser)
    text = browser.run("document.body.innerText")
    assert text.count("<img src=x onerror=alert(1)>\\n\\x1b[31m\\u202egnp.exe {{ 7 * 7 }}") >= 6
    assert browser.run("document.querySelectorAll('img:not([src^=data])').length") == 0
    assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("document.querySelector('.action').style.color = '#999'", "color-contrast"),
        ("document.documentElement.removeAttribute('lang')", "html-has-lang"),
        ("document.querySelector('svg[role=img]').removeAttribute('aria-label')", "svg-img-alt"),
    ],
)
def test_a_fault_would_be_noticed(browser, address, fault, rule):
    look(browser, address)
    few = "document.querySelectorAll('main > *').forEach((e, i) => i > 12 && e.remove())"
    browser.run(f"{few}; {fault}; 0")
    assert {found.split(":")[0] for found in violations(browser)} == {rule}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("t.style.fill = '#bbb'", "has a contrast of"),
        ("t.style.fontSize = '5px'", "px"),
        ("t.setAttribute('x', 9999)", "is cut off"),
        ("t.parentNode.append(t.cloneNode(true))", "are over each other"),
    ],
)
def test_a_fault_in_a_picture_would_be_noticed(browser, crowded, fault, said):
    look(browser, crowded)
    browser.run(f"(t => {{ {fault} }})(document.querySelector('svg[role=img] text')); 0")
    assert any(said in found for found in unreadable(browser))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_batches(browser, tmp_path, width):
    (tmp_path / "report.html").write_text(of_batches())
    look(browser, f"file://{tmp_path}/report.html", "dark", width)
    assert violations(browser) == []
    assert unreadable(browser) == []
    assert fits(browser)


@pytest.mark.slow
def test_twenty_data_sets_of_eight_experts(browser, tmp_path):
    (tmp_path / "report.html").write_text(with_long_names(tmp_path, 20))
    for width in WIDTHS:
        look(browser, f"file://{tmp_path}/report.html", width=width)
        assert fits(browser)
        assert unreadable(browser) == []
    unfold(browser)
    assert violations(browser) == []


@pytest.mark.slow
def test_the_page_of_tasks(browser, tmp_path):
    run = write_tasks(tmp_path / "run", EXPERTS[8], stray=False)
    page.write_page(run)
    look(browser, f"file://{run.address}/report.html", "dark")
    assert unreadable(browser) == []
    unfold(browser)
    assert violations(browser) == []
