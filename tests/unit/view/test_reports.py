"""A run's own report in the explorer: its counts are links, which lead to as many samples."""

import html
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from dawin_ray.report import served, write_page
from dawin_ray.runs import RunDirectory
from dawin_ray.view import open_runs
from tests.unit.view.conftest import CLASS_NAMES, client_of

ADDRESS = "/run/0/report.html"


@pytest.fixture(scope="module")
def page(client):
    answer = client.get(ADDRESS)
    assert answer.status_code == 200
    return answer.text


def counts(page: str) -> list[tuple[str, int]]:
    """The links of a served page, and the counts that they are."""
    found = re.findall(r'<a href="(look\?[^"]+)">([\d,]+)</a>', page)
    return [(html.unescape(link), int(n.replace(",", ""))) for link, n in found]


def test_each_count_leads_to_as_many_samples(client, page):
    found = dict(counts(page))
    for kind in ("prediction=", "experts=", "right=", "cluster="):
        assert any(kind in link for link in found), kind
    for link, n in found.items():
        answer = client.get(f"/run/0/{link}")  # as a browser resolves it
        assert answer.url.path == "/look"
        assert f"<h1>{n:,} samples</h1>" in answer.text, link


def test_in_a_file_counts_are_no_links_and_words_say_how_to_open_them(run_dir):
    text = Path(run_dir, "report.html").read_text()
    assert not re.search(r'href="(?!#|data:)', text)
    assert "<script" not in text
    assert f"dawin-ray view {run_dir}" in text
    assert "<p data-served hidden" in text
    assert served(text) != text


def test_the_words_of_a_served_page_are_others(page):
    assert "data-" not in re.sub(r"data-sets|data:", "", page)
    assert re.search(r"<p hidden[^>]*>To see the images", page)
    assert re.search(r"<p [^>h]*>Counts are links", page)


def test_a_report_runs_nothing_and_loads_nothing(client, page):
    policy = client.get(ADDRESS).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "http" not in policy
    assert "form-action 'none'" in policy
    assert "<script" not in page
    for name in CLASS_NAMES[:1] + CLASS_NAMES[-1:]:
        assert name not in page
        assert name in html.unescape(page)


def test_names_are_encoded_in_links(client):
    hostile = quote("a&b=c#<x>", safe="")
    answer = client.get(f"/run/0/look?dataset={hostile}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/look?dataset=a%26b%3Dc%23%3Cx%3E"


def test_a_link_leads_nowhere_else(client):
    for query in ("run=7", "batch=x", "next=//elsewhere.example", "dataset=tars&sort="):
        answer = client.get(f"/run/0/look?{query}", follow_redirects=False)
        assert answer.headers["location"] in ("/look?", "/look?dataset=tars")
    assert client.get("/run/0/look?sort=x").status_code == 400
    for path in ("/run/7/report.html", "/run/x/look", "/run/0/batches/none/report.html"):
        assert client.get(path).status_code == 400


def test_links_of_a_second_run_lead_to_it(run_dir):
    client = client_of(open_runs([run_dir, run_dir]))
    assert 'href="/run/1/report.html"' in client.get("/?run=1").text
    answer = client.get("/run/1/look?merged=wrong", follow_redirects=False)
    assert answer.headers["location"] == "/look?run=1&merged=wrong"


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_report_that_is_not_as_it_was_sealed_is_not_shown(run_dir, tmp_path, change):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    client = client_of(open_runs([str(copy)]))
    report = copy / "report.html"
    if change == "gone":
        report.unlink()
    else:
        report.write_text(report.read_text() + " ")
    answer = client.get(ADDRESS)
    assert answer.status_code == 400
    assert "not as its manifest says" in answer.text
    write_page(RunDirectory(str(copy)))
    assert client.get(ADDRESS).status_code == 200


def test_without_the_token_there_is_none(runs):
    from starlette.testclient import TestClient

    from dawin_ray.view import make_app
    from tests.unit.view.conftest import PORT, TOKEN

    stranger = TestClient(make_app(runs, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}")
    for path in (ADDRESS, "/run/0/look?merged=wrong"):
        assert stranger.get(path, follow_redirects=False).status_code == 401
