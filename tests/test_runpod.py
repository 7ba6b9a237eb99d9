"""The RunPod worker answers with the product's own result, and with a sentence where it cannot."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import pytest

from sam_droplet.config import load_config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.imaging.synthetic import render_sample
from sam_droplet.pipeline import Segmenter

SOURCE = Path(__file__).parents[1] / "deploy" / "runpod" / "handler.py"


@pytest.fixture(scope="module")
def worker():
    spec = importlib.util.spec_from_file_location("runpod_handler", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def png() -> bytes:
    return encode_png(render_sample("emulsion")[:256, :256].copy())


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter(load_config({}, {"data_dir": tmp_path_factory.mktemp("data"), "omp_num_threads": 1}))


@pytest.fixture
def handler(worker, segmenter, png):
    def fetch(url: str, at_most_bytes: int) -> bytes:
        if url != "https://example.org/a.png":
            raise InputError("image_url could not be downloaded.")
        return png

    return worker.make_handler(load_config({}), segmenter, fetch)


def test_the_same_image_by_text_and_by_address_gives_the_products_own_result(handler, segmenter, png):
    given = {"filename": "a.png", "um_per_px": 0.5}
    by_text = handler({"id": "1", "input": given | {"image": base64.b64encode(png).decode()}})
    by_address = handler({"id": "2", "input": given | {"image_url": "https://example.org/a.png"}})
    expected = segmenter.find(load_image(png, "a.png")).droplets
    for answer in (by_text, by_address):
        assert [d["diameter_px"] for d in answer["droplets"]] == pytest.approx(
            [d.measures.diameter_px for d in expected], rel=1e-5
        )
        assert answer["droplets"][0]["diameter_um"] == pytest.approx(
            answer["droplets"][0]["diameter_px"] / 2, rel=1e-5
        )
    low = handler(
        {"id": "3", "input": given | {"image_url": "https://example.org/a.png", "chamber_height_um": 4}}
    )
    assert low["chamber_height_um"] == 4
    assert low["droplets"][0]["volume_pl"] < by_text["droplets"][0]["volume_pl"]
    outside = handler(
        {"id": "4", "input": given | {"image_url": "https://example.org/a.png", "rim_offset_px": 1}}
    )
    assert outside["parameters"]["rim_offset_px"] == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "either as base64"),
        ({"image": "AAAA", "image_url": "https://example.org/a.png"}, "either as base64"),
        ({"image": "AAAA"}, "image"),
        ({"image_url": "https://elsewhere.example/"}, "could not be downloaded"),
        ({"image_url": "https://example.org/a.png", "sensitivity": 7}, "sensitivity"),
        ({"picture": "x"}, "picture"),
        (None, "input"),
    ],
)
def test_a_wrong_job_is_a_sentence(handler, given, sentence):
    answer = handler({"id": "1", "input": given})
    assert sentence in answer["error"]
    assert set(answer) == {"error"}


def test_what_breaks_is_no_traceback_and_asks_for_a_fresh_worker(worker, png):
    class Broken:
        def find(self, image, options):
            raise RuntimeError("CUDA error at /opt/secret/place")

    handler = worker.make_handler(load_config({}), Broken(), lambda url, at_most: png)
    answer = handler({"id": "1", "input": {"image_url": "https://example.org/a.png"}})
    assert answer["refresh_worker"] is True
    assert "secret" not in answer["error"]


def test_addresses_inside_the_network_are_never_fetched(worker):
    pytest.importorskip("runpod", reason="runpod is not installed; deploy/runpod/Dockerfile installs it")
    with pytest.raises(InputError, match="could not be downloaded"):
        worker.fetch_safely("http://127.0.0.1:9/", 100)
