"""Objectives: saved once, picked ever after, each key its own."""

from __future__ import annotations

import pytest

PAGE = {"X-SAM-Droplet": "1"}


def save(client, name, um_per_px, **headers):
    return client.post("/api/objectives", json={"name": name, "um_per_px": um_per_px}, headers=PAGE | headers)


def forget(client, name):
    return client.delete("/api/objectives", query_string={"name": name}, headers=PAGE)


def test_objectives_are_listed_by_magnification_and_replaced_by_name(client):
    save(client, "20x / 0.5", 0.325)
    save(client, "4x", 1.62)
    save(client, "  20x  /  0.5 ", 0.33)
    assert client.get("/api/objectives").json["objectives"] == [
        {"name": "4x", "um_per_px": 1.62},
        {"name": "20x / 0.5", "um_per_px": 0.33},
    ]
    assert forget(client, "20x / 0.5").json["objectives"] == [{"name": "4x", "um_per_px": 1.62}]
    assert forget(client, "4y").status_code == 404


@pytest.mark.parametrize("name", ["/20x", "20x//oil", "..", "20x/", "50 % oil?", "10x & 1.5x"])
def test_every_name_that_is_kept_can_be_forgotten(client, name):
    assert save(client, name, 0.3).status_code == 200
    assert forget(client, name).json["objectives"] == []


def test_each_key_has_its_own(make_app):
    app = make_app()
    runner = app.extensions["sam_droplet"].key_ring
    (_, first), (_, second) = runner.create("Ada"), runner.create("Grace")
    client = app.test_client()
    save(client, "10x", 0.65, **{"X-API-Key": first})
    mine, others = (client.get("/api/objectives", headers={"X-API-Key": k}).json for k in (first, second))
    assert len(mine["objectives"]) == 1
    assert others == {"objectives": []}


@pytest.mark.parametrize(
    "wrong",
    [{}, {"name": "", "um_per_px": 1}, {"name": "a" * 61, "um_per_px": 1}, {"name": "4x", "um_per_px": 0}],
)
def test_what_is_no_objective_is_refused(client, wrong):
    response = client.post("/api/objectives", json=wrong, headers=PAGE)
    assert response.status_code == 400
    assert response.json["error"]
