"""The pages in a browser, at a desk and on a phone: opened, filtered, a sample seen, exported."""

import tarfile
import threading
import time

import pytest
import uvicorn

from dawin_ray.view import make_app
from tests.unit.access import lacking, unfold, violations
from tests.unit.view.browser import NAMES, Browser, executable
from tests.unit.view.conftest import COUNT, TOKEN

pytestmark = pytest.mark.skipif(
    executable() is None, reason=f"no Chromium ({', '.join(NAMES)}) is installed"
)

SIZES = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def root(runs):
    """Where a server listens that nobody has opened yet."""
    import socket

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(make_app(runs, TOKEN, port), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(params=SIZES)
def browser(request, tmp_path):
    with Browser(tmp_path, *SIZES[request.param]) as opened:
        yield opened


def fits(browser: Browser) -> bool:
    return browser.run("document.documentElement.scrollWidth <= innerWidth")


def images_are_there(browser: Browser) -> None:
    browser.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    browser.wait_until("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_opened_filtered_looked_at_and_exported(browser, root, tmp_path, database):
    browser.open(root)
    assert browser.status[f"{root}/"] == 401
    browser.console.clear()  # it is told there
    browser.open(f"{root}/?token={TOKEN}")
    assert browser.run("location.href") == f"{root}/"
    assert browser.run("document.cookie") == ""
    assert "tars" in browser.run("document.body.innerText")
    assert fits(browser)

    browser.go("document.querySelector('nav a[href^=\"/look\"]').click()", "/look")
    assert browser.run("document.querySelector('h1').innerText") == f"{3 * COUNT} samples"
    browser.run("document.querySelector('details.filter').open = true")
    for name, value in {"merged": "wrong", "experts": "one"}.items():
        browser.go(
            f"const field = document.querySelector('[name={name}]'); field.value = '{value}'; "
            "field.dispatchEvent(new Event('change', {bubbles: true}))",
            f"{name}={value}",
        )
    assert browser.run("location.search") == "?merged=wrong&experts=one&weight=expert_1"
    expected = database.query("SELECT 1 FROM samples WHERE NOT merged_right AND experts_right = 1")
    count = len(expected.rows)
    assert count > 1
    assert browser.run("document.querySelector('h1').innerText") == f"{count} samples"
    assert browser.run("document.querySelectorAll('.gallery li').length") == count
    images_are_there(browser)
    assert fits(browser)

    download = browser.run("document.querySelector('a[href*=\"format=webdataset\"]').href")
    browser.go("document.querySelector('.gallery a').click()", "/sample?")
    images_are_there(browser)
    assert "In the mixture" in browser.run("document.body.innerText")
    first = browser.run("document.querySelector('h1').innerText")
    assert fits(browser)

    folder = str(tmp_path / "down")
    browser._call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
    browser.run(f"location.href = {download!r}; 0")
    browser._until((tmp_path / "down" / "samples.tar").exists, "the download")
    with tarfile.open(tmp_path / "down" / "samples.tar") as tar:
        assert len([name for name in tar.getnames() if name.endswith(".json")]) == count
    assert browser.run("document.querySelector('h1').innerText") == first

    assert not browser.console
    elsewhere = [url for url in browser.requests if not url.startswith((root, "about:", "data:"))]
    assert not elsewhere
    assert {status for url, status in browser.status.items() if url != f"{root}/"} <= {200, 303}


def test_keys_lead_between_samples_and_to_the_filter(browser, root):
    browser.open(f"{root}/?token={TOKEN}")
    browser.open(f"{root}/look?dataset=tars")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.getAttribute('href')").endswith("at=1")
    browser.press("ArrowLeft")
    browser.run("window.before = true")
    browser.press("Enter")
    browser.wait_until("location.pathname === '/sample'")
    browser.wait_until("document.readyState === 'complete'")
    first = browser.run("document.querySelector('h1').innerText")
    browser.press("ArrowRight")
    browser.wait_until("location.search.endsWith('at=1') && document.readyState === 'complete'")
    assert browser.run("document.querySelector('h1').innerText") != first
    browser.press("ArrowLeft")
    browser.wait_until("location.search.endsWith('at=0') && document.readyState === 'complete'")
    assert browser.run("document.querySelector('h1').innerText") == first
    browser.press("u")
    browser.wait_until("location.pathname === '/look' && document.readyState === 'complete'")
    browser.press("/")
    assert browser.run("document.activeElement.name") == "id"
    assert browser.run("document.querySelector('details.filter').open")
    assert not browser.console


PAGES = (
    "/", "/look?dataset=tars&merged=wrong", "/sample?dataset=tars&at=1", "/confusions",
    "/sql?sql=SELECT dataset, sample_id FROM samples LIMIT 4", "/sql?sql=DROP TABLE samples",
)  # fmt: skip


@pytest.mark.skipif(bool(lacking()), reason=lacking())
@pytest.mark.parametrize("browser", ["phone", pytest.param("desk", marks=pytest.mark.slow)],
                         indirect=True)  # fmt: skip
@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_axe_core_finds_nothing(browser, root, scheme):
    browser.show_as(scheme)
    browser.open(f"{root}/?token={TOKEN}")
    for path in PAGES:
        browser.open(f"{root}{path}".replace(" ", "%20"))
        unfold(browser)
        assert violations(browser) == [], path
        assert fits(browser), path


def test_hostile_names_run_nothing_and_load_nothing(browser, root):
    browser.open(f"{root}/?token={TOKEN}")
    browser.run("window.alert = () => { throw Error('a name was run') }")
    hostile = (
        "/look?dataset=images", "/sql?sql=SELECT dataset, sample_id FROM samples",
        "/look?id=%3Cimg", "/sample?dataset=tars&at=1", "/sample?dataset=images&at=0",
        "/confusions",
    )  # fmt: skip
    for path in hostile:
        browser.open(f"{root}{path}".replace(" ", "%20"))
        images_are_there(browser)
        assert browser.run("document.scripts.length") == 1
        assert browser.run("document.querySelectorAll('img[onerror], b, i').length") == 0
    assert not browser.console
    assert all(url.startswith((root, "about:")) for url in browser.requests)


def test_a_page_of_another_site_cannot_look(browser, root, tmp_path):
    browser.open(f"{root}/?token={TOKEN}")
    page = tmp_path / "other.html"
    image = f"{root}/image?dataset=rows&sample=a.parquet/0"
    page.write_text(f'<img src="{image}"><a href="{root}/">x</a>')
    browser.open(f"file://{page}")
    browser.wait_until("document.images[0].complete")
    assert browser.run("document.images[0].naturalWidth") == 0
    browser.run("document.querySelector('a').click()")
    browser.wait_until("document.title === '401' && document.readyState === 'complete'")
    browser.run("document.querySelector('a').click()")  # open this page again
    browser.wait_until("document.body && document.body.innerText.includes('Suite')")
