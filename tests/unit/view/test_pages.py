"""What the pages show, that every text in them is text, and that they ask for nothing elsewhere."""

import html
import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from dawin_ray.view import open_runs
from tests.unit.structure import wrong
from tests.unit.view.conftest import CLASS_NAMES, COUNT, HOSTILE, client_of

TAGS = {
    "html", "head", "meta", "title", "link", "script", "body", "header", "nav", "a", "p", "main",
    "h1", "h2", "footer", "kbd", "div", "table", "thead", "tbody", "tr", "th", "td", "details",
    "summary", "form", "label", "input", "select", "option", "span", "button", "textarea", "ol",
    "ul", "li", "img", "figure", "figcaption", "meter", "pre", "code", "svg", "polygon", "line",
    "text", "circle",
}  # fmt: skip


class Seen(HTMLParser):
    """The tags of a page, its addresses, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.addresses, self.text = set(), set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data):
        self.text += data


def seen(client, path: str) -> Seen:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Seen(answer.text)


def pages(client) -> list[str]:
    every = seen(client, "/sql?sql=" + quote("SELECT dataset, sample_id, label FROM samples"))
    return [
        "/", "/look", "/look?merged=wrong&experts=one", "/look?dataset=tars", "/confusions", "/sql",
        "/look?id=" + quote(HOSTILE[0]), "/look?page=1", "/sample?at=5",
        *(a for a in every.addresses if a.startswith("/sample?")),
    ]  # fmt: skip


def test_hostile_names_are_text(client):
    for path in pages(client):
        page = seen(client, path)
        assert page.tags <= TAGS, path
        assert not {name for name in page.attributes if name.startswith("on")}, path
        assert "style" not in page.attributes, path
        answer = client.get(path).text
        assert answer.count("<script") == 1, path
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", answer), path
        assert "49" not in re.findall(r"\d\d(\d\d)\.", answer), path  # {{ 7 * 7 }}


def test_everything_has_its_place_and_name(client):
    for path in pages(client):
        faults = wrong(client.get(path).text)
        assert [fault for fault in faults if fault != "a <script>"] == [], path  # its own


def test_nothing_is_asked_for_elsewhere(client):
    for path in pages(client):
        for address in seen(client, path).addresses:
            parts = urlsplit(address)
            assert not parts.scheme, (path, address)
            assert not parts.netloc, (path, address)
            assert address.startswith("/"), (path, address)


def test_every_link_leads_to_a_page(client):
    done = set()
    for path in pages(client)[:12]:
        for address in seen(client, path).addresses:
            if address not in done and not address.startswith("/export"):
                done.add(address)
                assert client.get(address).status_code == 200, (path, address)
    assert len(done) > 100


def test_the_suite_has_the_figures_of_the_report(client, run):
    text = seen(client, "/").text
    for row in run.suite:
        assert row.dataset in text
        for share in row.accuracy.values():
            assert share is None or f"{100 * share:.1f}" in text


def test_names_stand_in_pages_as_they_are(client):
    text = seen(client, "/look?dataset=tars&merged=wrong").text
    assert "<b>bold</b>" in text or "=1+1" in text
    ids = seen(client, "/sql?sql=" + quote("SELECT sample_id FROM samples WHERE dataset='tars'"))
    assert HOSTILE[0] in ids.text
    assert "\\x1b[31mred" in ids.text
    assert "new\\nline" in ids.text


def test_a_sample_is_shown_with_all_that_is_stored(client, database):
    [row] = database.query("SELECT * FROM samples WHERE dataset='rows' LIMIT 1").dicts()
    path = f"/sample?dataset=rows&sample={quote(row['sample_id'], safe='')}"
    answer = client.get(path).text
    text = Seen(answer).text
    for name in ("expert_0", "expert_1", "DaWin (merged)", "dawin" and "In the mixture"):
        assert name in text
    for share in (*row["coefficient"], *row["expert_entropy"], *row["top_probabilities"]):
        assert f"{share:.4f}" in text
    for number in row["top_classes"]:
        assert CLASS_NAMES[number].replace("\x1b", "\\x1b").replace("\t", "\\t") in text
    assert '<svg class="mixture"' in answer
    assert answer.count('class="own"') == 1


def test_samples_follow_each_other_in_the_choice(client, database):
    place, ids = "/sample?dataset=tars&sort=unsure&at=0", []
    while place:
        answer = client.get(place).text
        ids += re.findall(r'<h1 class="id">(.*?)</h1>', answer, re.S)
        found = re.search(r'<a rel="next" href="([^"]*)"', answer)
        place = html.unescape(found[1]) if found else None
    stored = database.query("SELECT count(*) FROM samples WHERE dataset='tars'").rows[0][0]
    assert len(set(ids)) == len(ids) == stored
    assert client.get("/sample?dataset=tars&at=999").status_code == 400


def test_a_link_reproduces_a_view(client):
    query = "dataset=rows&merged=wrong&experts=any&sort=entropy&confidence_from=0.1"
    page = client.get(f"/look?{query}").text
    again = [a for a in Seen(page).addresses if a.startswith("/export") and "format=csv" in a]
    assert dict(parse_qsl(query)) | {"format": "csv"} == dict(parse_qsl(urlsplit(again[0]).query))
    timeless = [re.sub(r"\d+\.\d\d s", "", client.get(f"/look?{query}").text) for _ in range(2)]
    assert timeless[0] == timeless[1]


def test_sql_is_shown_as_it_ran_and_can_be_changed(client):
    shown = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", client.get("/look?label=2").text, re.S)
    sql = html.unescape(shown[1])
    assert "label = 2" in sql
    page = seen(client, f"/sql?sql={quote(sql)}")
    assert sql.strip() in page.text
    wrong = client.get("/sql?sql=" + quote("COPY samples TO '/tmp/x'"))
    assert wrong.status_code == 400
    assert "Only SELECT" in wrong.text
    hostile = client.get(
        "/sql?sql=" + quote("SELECT '</textarea><script>' AS \"<i>\", 1 AS dataset")
    )
    assert hostile.text.count("<script") == 1
    assert "<i>" not in hostile.text


def test_columns_of_one_name_or_of_another_kind_are_shown_too(client):
    for sql in (
        "SELECT 1 AS a, 2 AS a",
        "SELECT 1 AS dataset, NULL AS sample_id",
        "SELECT {'a': 1} AS s, [1, NULL] AS l, 'x'::BLOB AS b, now() AS t, 1e400 AS big",
        "SELECT dataset, sample_id, sample_id FROM samples",
        "SELECT * FROM samples LIMIT 0",
    ):
        assert client.get("/sql?sql=" + quote(sql)).status_code == 200, sql


@pytest.mark.parametrize(
    "path",
    [
        "/?run=7", "/?run=-1", "/look?run=x", "/look?label=x", "/look?page=x", "/sample",
        "/sample?dataset=tars&sample=none", "/look?weight=nobody", "/export?format=exe",
        "/export?format=csv&sql=DROP", "/export?format=webdataset&sql=SELECT+1", "/look?id=%00",
        "/sample?dataset=%00&sample=%00", "/look?page=9223372036854775807", "/sql?run=9",
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_told(client, path):
    answer = client.get(path)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_several_runs_are_chosen_between_and_a_sample_is_shown_of_all(run_dir):
    client = client_of(open_runs([run_dir, run_dir]))
    assert 'aria-label="Runs"' in client.get("/").text
    assert f"{3 * COUNT} samples" in client.get("/look?run=1").text
    answer = client.get("/sample?run=1&dataset=rows&sample=a.parquet/3").text
    assert "In other runs" in answer
    assert 'href="/sample?run=0&amp;dataset=rows&amp;sample=a.parquet%2F3"' in answer
