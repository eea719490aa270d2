"""What is installed has the pages' templates and files, not the modules alone."""

from pathlib import Path

import dawin_ray

ROOT = Path(dawin_ray.__file__).parents[1]


def test_the_wheel_has_every_file_of_the_page():
    from hatchling.builders.wheel import WheelBuilder

    inside = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    files = [
        path.relative_to(ROOT).as_posix()
        for folder in ("templates", "static")
        for path in (ROOT / "dawin_ray" / "view" / folder).iterdir()
    ]
    assert len(files) > 9
    assert set(files) <= inside
    assert "dawin_ray/view/server.py" in inside
    assert not [name for name in inside if name.startswith("tests")]


def test_what_is_sent_to_a_browser_is_listed_and_asks_for_nothing_elsewhere():
    from dawin_ray.view.routes import STATIC

    folder = ROOT / "dawin_ray" / "view" / "static"
    assert {path.name for path in folder.iterdir()} == set(STATIC)
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for word in ("http:", "https:", "//cdn", "@import", "url(", "fetch(", "eval(", "innerHTML"):
            assert word not in text, (path.name, word)
