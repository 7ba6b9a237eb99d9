"""Logging in with a key in a real browser."""

from __future__ import annotations

import pytest
from browsing import LAB_HOST, SIZES, Server, open_page
from playwright.sync_api import expect

from sam_droplet.config import load_config
from sam_droplet.service.access import open_key_ring
from sam_droplet.service.store import Store

__all__ = ["open_page"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Serve with keys; return the server's address in the lab, which has no HTTPS, and a key."""
    config = load_config({}, {"data_dir": tmp_path_factory.mktemp("data")})
    store = Store(config.data_dir)
    _, key = open_key_ring(config, store).create("ada")
    store.close()
    server = Server(config.data_dir)
    yield f"http://{LAB_HOST}:{server.port}", key
    server.stop()


@pytest.mark.parametrize("size", SIZES)
def test_a_key_logs_in_and_out_without_https(lab, open_page, size):
    address, key = lab
    page = open_page(size)
    page.allowed.append("Cross-Origin-Opener-Policy")  # ignored without HTTPS, says the browser
    page.goto(f"{address}/batch")
    page.locator("#key").fill(key)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Measure many images alike")
    assert page.url == f"{address}/batch"
    assert page.locator(".brand span").bounding_box()["height"] < 30  # on one line
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    theme = page.get_by_role("button", name="Colour theme").bounding_box()
    assert theme["x"] + theme["width"] <= SIZES[size][0]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in with your key")
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)
    page.goto(f"{address}/batch")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in with your key")
