"""Links by which others look at one image: what they open, and what they never do."""

from __future__ import annotations

import pytest

from sam_droplet.errors import NotFound
from sam_droplet.service.shares import Shares
from sam_droplet.web import services_of

PAGE = {"X-SAM-Droplet": "1"}
READS = ["", "/annotation", "/assays", "/report", "/view", "/tile", "/export/csv"]


@pytest.fixture
def link(client, image_id):
    """Share an image with droplets and return the path of the link."""
    assert client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE).status_code == 200
    answer = client.post(f"/api/images/{image_id}/share", headers=PAGE)
    assert (answer.status_code, answer.json["links"], answer.json["is_local"]) == (201, 1, True)
    return answer.json["url"].removeprefix("http://localhost")


def test_a_link_shows_the_image_and_its_files(client, image_id, link):
    page = client.get(link)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "X excludes" in client.get(f"/annotate/{image_id}").text
    assert "X excludes" not in page.text
    shared = client.get(f"{link}/annotation").json
    assert shared["droplets"] == client.get(f"/api/images/{image_id}/annotation").json["droplets"]
    settings = {"threshold": 100.0, "dilution": 10.0}
    client.put(f"/api/images/{image_id}/assays/ddpcr", json=settings, headers=PAGE)
    for what in ("assays", "report"):
        assert client.get(f"{link}/{what}").json == client.get(f"/api/images/{image_id}/{what}").json
    assert client.get(f"{link}/assays").json["assays"]["ddpcr"]["settings"]["dilution"] == 10
    assert shared["image"]["view_url"] == f"{link}/view"
    assert client.get(f"{link}/view").mimetype == "image/png"
    assert client.get(f"{link}/tile?level=0").mimetype == "image/jpeg"
    assert client.get(f"{link}/export/csv").data == client.get(f"/api/images/{image_id}/export/csv").data


def test_a_link_works_without_a_key_and_opens_nothing_else(app, client, link, image_id):
    services_of(app).key_ring.create("somebody")
    for path in READS:
        assert client.get(link + path).status_code == 200
    assert client.get(f"/api/images/{image_id}/annotation").status_code == 401
    for method in ("post", "patch", "delete", "put"):
        for path in READS:
            assert getattr(client, method)(link + path, headers=PAGE).status_code in (401, 405)


def test_a_withdrawn_an_expired_and_a_wrong_link_open_nothing(app, client, image_id, link, monkeypatch):
    assert client.get(link[:-1] + ("A" if link[-1] != "A" else "B")).status_code == 404
    later = services_of(app).shares.follow(link.rsplit("/", 1)[1]).expires_at + 1
    with monkeypatch.context() as changed:
        changed.setattr("sam_droplet.service.shares.time.time", lambda: later)
        assert client.get(f"{link}/annotation").status_code == 404
    assert client.get(f"/api/images/{image_id}/share").json == {"links": 1, "is_local": True}
    assert client.delete(f"/api/images/{image_id}/share", headers=PAGE).status_code == 204
    assert client.get(f"/api/images/{image_id}/share").json["links"] == 0
    refused = client.get(link)
    assert (refused.status_code, refused.mimetype) == (404, "text/html")
    assert "no longer valid" in refused.text
    assert client.get(f"{link}/annotation").json["code"] == "not_found"


@pytest.mark.parametrize("host", ["[::1]", "[::1]:9487", "127.0.0.1", "localhost:9487"])
def test_every_name_of_this_computer_makes_a_link_for_it_alone(client, image_id, host):
    assert client.get(f"/api/images/{image_id}/share", headers={"Host": host}).json["is_local"] is True


def test_links_go_with_their_image_and_belong_to_its_owner(app, client, image_id, link):
    assert client.get(f"/api/images/{'0' * 32}/share").status_code == 404
    assert client.post(f"/api/images/{'0' * 32}/share", headers=PAGE).status_code == 404
    client.delete(f"/api/images/{image_id}", headers=PAGE)
    assert client.get(link).status_code == 404
    assert Shares(services_of(app).store.database).count(image_id) == 0


def test_an_image_that_is_deleted_just_before_it_is_shared_is_told(app, client, image_id):
    client.delete(f"/api/images/{image_id}", headers=PAGE)
    with pytest.raises(NotFound, match="no image with this id"):
        services_of(app).shares.create("local", image_id)


def test_the_secret_of_a_link_is_not_logged(client, link, caplog):
    token = link.rsplit("/", 1)[1]
    with caplog.at_level("INFO"):
        for path in (link, f"{link}/annotation", f"/shared/wrong{token}/view"):
            client.get(path)
        # Mistyped, or asked in another way, it is as secret.
        for path in (f"{link}/", f"{link}/annotation/x", f"/shared//{token}"):
            client.get(path)
        client.post(link, headers=PAGE)
    assert "/shared/…/annotation" in caplog.text
    assert token not in caplog.text
