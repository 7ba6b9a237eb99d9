"""An application per test, with the threshold in place of the networks and a folder of its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser
from discs import ThresholdSegmenter, disc_png
from flask import Flask
from flask.testing import FlaskClient

from sam_droplet.config import load_config
from sam_droplet.web import create_app, services_of

__all__ = ["browser"]

PAGE = {"X-SAM-Droplet": "1"}


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Make applications on one data folder, with settings by name."""
    made: list[Flask] = []

    def make(segmenter: Any = None, **settings: Any) -> Flask:
        config = load_config({}, {"data_dir": tmp_path / "data", **settings})
        app = create_app(config, segmenter or ThresholdSegmenter())
        app.testing = True
        app.config["PROPAGATE_EXCEPTIONS"] = False
        made.append(app)
        return app

    yield make
    for app in made:
        services_of(app).store.close()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """Return an application with the default settings."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client of it."""
    return app.test_client()


@pytest.fixture
def upload(client: FlaskClient) -> Callable[..., Any]:
    """Upload files to the page's API and return the response."""

    def send(*files: tuple[bytes, str], **options: Any) -> Any:
        fields = {"file": [(io.BytesIO(data), name) for data, name in files]}
        return client.post(
            "/api/images", data=fields | options.pop("form", {}), headers=options.pop("headers", PAGE)
        )

    return send


@pytest.fixture
def image_id(upload: Callable[..., Any]) -> str:
    """Return the id of an opened image of five discs."""
    response = upload((disc_png(), "discs.png"))
    assert response.status_code == 201
    return str(response.json["images"][0]["id"])
