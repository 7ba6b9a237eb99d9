"""Scripts and styles are kept by browsers for good, and never served stale."""

from __future__ import annotations

import mimetypes
import re

import pytest

from sam_droplet.web.static_files import files_version

FOR_GOOD = "public, max-age=31536000, immutable"


def address_of_style(client) -> str:
    found = re.search(r'href="([^"]+/style\.css)"', client.get("/").text)
    assert found is not None
    return found[1]


def test_pages_name_files_by_their_content(client):
    address = address_of_style(client)
    assert re.fullmatch("/static/v[0-9a-f]{12}/style.css", address)
    with client.get(address) as response:
        assert (response.status_code, response.headers["Cache-Control"]) == (200, FOR_GOOD)


def test_an_old_or_no_version_gives_the_file_of_now_and_is_not_kept(client):
    with client.get(address_of_style(client)) as response:
        now = response.data
    for address in ("/static/style.css", "/static/v000000000000/style.css"):
        with client.get(address) as response:
            assert (response.data, response.headers["Cache-Control"]) == (now, "no-cache")


def test_files_that_are_being_edited_have_no_version(make_app):
    app = make_app()
    app.debug = True
    assert address_of_style(app.test_client()) == "/static/style.css"


def test_what_is_not_there_is_404_and_nothing_outside_is_served(client):
    for name in ("nothing.js", "v000000000000/nothing.js", "v000000000000/../../app.py", "v000000000000/"):
        with client.get(f"/static/{name}") as response:
            assert response.status_code == 404


@pytest.mark.parametrize("name", ["main.js", "vendor/tabulator/tabulator_esm.min.mjs"])
def test_scripts_come_as_scripts_whatever_the_computer_calls_them(client, monkeypatch, name):
    mimetypes.init()
    # As the registry of many a Windows says; a browser runs no module of this type.
    monkeypatch.setitem(mimetypes.types_map, f".{name.rsplit('.', 1)[1]}", "text/plain")
    with client.get(f"/static/{name}") as response:
        assert response.mimetype == "text/javascript"


def test_the_version_changes_with_any_name_or_content(tmp_path):
    versions = [files_version(tmp_path)]
    for name, text in (("a.js", "1"), ("a.js", "2"), ("b.js", "2")):
        (tmp_path / name).write_text(text)
        versions.append(files_version(tmp_path))
    assert len(set(versions)) == 4
    assert files_version(tmp_path) == versions[-1]
