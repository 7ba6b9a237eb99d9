"""DropletNet's runtime: tiles, threads, processes and backends give the same droplets; nothing runs twice."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_droplet.config import load_config
from sam_droplet.errors import ConfigError
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.imaging.masks import iou
from sam_droplet.imaging.synthetic import render_scene
from sam_droplet.segmentation import engines as engines_module
from sam_droplet.segmentation.automatic import propose, select
from sam_droplet.segmentation.checkpoints import DROPLET_NET, find
from sam_droplet.segmentation.droplet_net import DropletNet
from sam_droplet.segmentation.embedding_cache import EmbeddingCache
from sam_droplet.segmentation.engines import Engines, TorchEngine, choose_engines, why_no_openvino
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.predictor import DropletPredictor
from sam_droplet.segmentation.prompts import FindOptions, ModelInfo, Prompt
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import Stars
from sam_droplet.segmentation.weights import Networks, load_weights

ROOT = Path(__file__).parents[2]
needs_openvino = pytest.mark.skipif(why_no_openvino() is not None, reason="OpenVINO is not installed")
TORCH_ALONE = Engines("torch", "cpu", 1)


def networks() -> Networks:
    """The weights that come with the product."""
    return load_weights(find(DROPLET_NET, load_config({})).path)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A rendered emulsion of some 850 droplets, (768, 1024, 3) uint8."""
    return render_scene(3, "packed", 1024).pixels[:768]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of this module keep converted networks."""
    return tmp_path_factory.mktemp("runtime")


def openvino_runtime(stored: Path, threads: int) -> DropletRuntime:
    return DropletRuntime(networks(), "cpu", Engines("openvino", "cpu", threads, stored))


def droplets(runtime: DropletRuntime, pixels: np.ndarray) -> Stars:
    return select(propose(runtime, pixels), FindOptions())


def fingerprint(stars: Stars) -> str:
    return hashlib.sha256(
        stars.centre_xy.tobytes() + stars.radii.tobytes() + stars.score.tobytes()
    ).hexdigest()


def assert_same_droplets(a: Stars, b: Stars, within_px: float) -> None:
    assert len(a) == len(b) > 100
    distance = np.hypot(*(a.centre_xy[:, None] - b.centre_xy[None]).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    assert len(set(nearest)) == len(a)
    assert distance.min(axis=1).max() < within_px
    assert np.abs(a.equivalent_radii() - b.equivalent_radii()[nearest]).max() < within_px


def test_tiles_give_the_droplets_of_one_pass(pixels):
    model = networks()
    whole = DropletRuntime(model, "cpu", TORCH_ALONE, tile_px=1024)
    tiled = DropletRuntime(model, "cpu", TORCH_ALONE, tile_px=576)
    assert_same_droplets(droplets(whole, pixels), droplets(tiled, pixels), within_px=1.0)


@needs_openvino
def test_openvino_and_torch_find_the_same_droplets(pixels, stored):
    ours, theirs = openvino_runtime(stored, 1), DropletRuntime(networks(), "cpu", TORCH_ALONE)
    assert (ours.device, theirs.device) == ("cpu (openvino)", "cpu (torch)")
    assert_same_droplets(droplets(ours, pixels), droplets(theirs, pixels), within_px=0.01)


@needs_openvino
@pytest.mark.parametrize("side", [64, 192, 256, 448])
def test_the_network_answers_the_same_in_both_backends(stored, side):
    x = torch.rand(1, 3, side, 128, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        expected = networks().droplet_net(x)
    openvino = Engines("openvino", "cpu", 1, stored)
    in_openvino = openvino.make("droplet-net", networks().droplet_net, x, sides_vary=True)
    for engine in (in_openvino, TorchEngine(networks().droplet_net, "cpu")):
        for ours, theirs in zip(engine.run(x), expected, strict=True):
            assert (ours - theirs).abs().max() < 1e-4


@needs_openvino
def test_one_and_two_threads_give_identical_bytes(pixels, stored):
    one, two = (fingerprint(propose(openvino_runtime(stored, n), pixels)) for n in (1, 2))
    assert one == two


FIND = """
import hashlib, json, sys
from sam_droplet.config import load_config
from sam_droplet.imaging.images import load_image_file
from sam_droplet.pipeline import Segmenter, result_as_dict
segmenter = Segmenter(load_config({}, {"data_dir": sys.argv[2], "omp_num_threads": sys.argv[3]}))
image = load_image_file(sys.argv[1])
answer = result_as_dict(image, segmenter.find(image), None)
print(json.dumps([answer["model"]["device"], len(answer["droplets"]),
    hashlib.sha256(json.dumps(answer["droplets"]).encode()).hexdigest(),
    [name for name in sys.modules if "telemetry" in name]]))
"""


@needs_openvino
def test_processes_with_one_and_two_threads_give_identical_masks_and_measures(pixels, tmp_path):
    picture = tmp_path / "emulsion.png"
    picture.write_bytes(encode_png(pixels[:400, :400]))
    answers = []
    for threads in (1, 2):
        command = [sys.executable, "-c", FIND, str(picture), str(tmp_path / f"data{threads}"), str(threads)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]
    device, n_droplets, _, reporters = answers[0]
    assert device == "cpu (openvino)"
    assert n_droplets > 20
    assert reporters == [], "OpenVINO's converter, which reports its use over the network, was imported"


@needs_openvino
def test_the_encoder_of_mobile_sam_answers_the_same_in_all_backends(tmp_path):
    torch.manual_seed(1)
    encoder = MobileSam().image_encoder
    x = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        expected = encoder(x)
    engines = Engines("openvino", "cpu", 2, tmp_path)
    for engine in (engines.make("sam", encoder, x, sides_vary=False), TorchEngine(encoder, "cpu")):
        (embedding,) = engine.run(x)
        assert (embedding - expected).abs().max() < 1e-3


@needs_openvino
def test_a_network_is_converted_once_and_again_only_where_the_file_is_damaged(tmp_path, pixels):
    first = fingerprint(openvino_runtime(tmp_path, 1).stars(pixels[:128, :128], 1.0, 0.3))
    (description,) = tmp_path.glob("droplet-net-*.xml")
    written = description.stat().st_mtime_ns
    assert fingerprint(openvino_runtime(tmp_path, 1).stars(pixels[:128, :128], 1.0, 0.3)) == first
    assert description.stat().st_mtime_ns == written
    description.write_text("<net>rubbish")
    assert fingerprint(openvino_runtime(tmp_path, 1).stars(pixels[:128, :128], 1.0, 0.3)) == first
    assert description.stat().st_mtime_ns != written


@needs_openvino
def test_other_weights_are_another_network(tmp_path):
    x = torch.rand(1, 3, 64, 64)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = DropletNet().eval()
        with torch.inference_mode():
            expected = model(x)[0]
        engine = Engines("openvino", "cpu", 1, tmp_path).make("droplet-net", model, x, sides_vary=True)
        assert torch.allclose(engine.run(x)[0], expected, atol=1e-4)


class Unconvertible(torch.nn.Module):
    """Does what no converter knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


@needs_openvino
def test_what_openvino_cannot_run_runs_with_torch_and_says_so(tmp_path, caplog):
    x = torch.rand(1, 3, 64, 64)
    with caplog.at_level(logging.WARNING, logger=engines_module.__name__):
        engine = Engines("openvino", "cpu", 1, tmp_path).make("odd", Unconvertible(), x, sides_vary=False)
    assert engine.place == "cpu (torch)"
    assert "odd runs with torch" in caplog.text
    assert torch.equal(engine.run(x)[0], torch.special.bessel_j0(x))


def test_the_setting_chooses_the_runtime():
    assert choose_engines("torch", "cpu", 1).runtime == "torch"
    assert choose_engines("auto", "cuda", 1).runtime == "torch"
    expected = "torch" if why_no_openvino() else "openvino"
    assert choose_engines("auto", "cpu", 1).runtime == expected
    with pytest.raises(ConfigError, match="RUNTIME is openvino"):
        choose_engines("openvino", "cuda", 1)


class CountingRuntime(DropletRuntime):
    """Counts how often the network is asked to look."""

    looks = 0

    def stars(self, *arguments, **options):
        self.looks += 1
        return super().stars(*arguments, **options)


def test_opening_the_same_image_again_runs_no_network(pixels, tmp_path):
    def restarted() -> tuple[CountingRuntime, DropletPredictor]:
        runtime = CountingRuntime(networks(), "cpu", TORCH_ALONE)
        cache = EmbeddingCache(tmp_path, memory_bytes=10_000_000, disk_bytes=10_000_000)
        return runtime, DropletPredictor(runtime, cache, ModelInfo("droplet-net", "0" * 64, "cpu"))

    def opened() -> Image:
        return load_image(encode_png(pixels[:300, :300]), "again.png")

    runtime, predictor = restarted()
    found = predictor.find(opened(), FindOptions()).masks
    assert len(found) > 10
    assert runtime.looks > 0
    runtime, predictor = restarted()  # as another worker, or after a restart
    again = predictor.find(opened(), FindOptions()).masks
    assert [mask.bits.tobytes() for mask in again] == [mask.bits.tobytes() for mask in found]
    best = max(found, key=lambda mask: mask.score)
    x, y, w, h = best.bbox_xywh
    assert predictor.predict(opened(), Prompt(((x + w / 2, y + h / 2),), (1,))).masks
    predictor.find(opened(), FindOptions(sensitivity=0.8, diameter_min_px=5))
    assert runtime.looks == 0


def test_a_click_on_a_large_picture_does_not_wait_for_a_look_at_all_of_it(pixels, tmp_path):
    large = np.tile(pixels, (-(-3000 // pixels.shape[0]), -(-3000 // pixels.shape[1]), 1))[:3000, :3000]
    runtime = CountingRuntime(networks(), "cpu", TORCH_ALONE)
    cache = EmbeddingCache(tmp_path, memory_bytes=10_000_000, disk_bytes=10_000_000)
    predictor = DropletPredictor(runtime, cache, ModelInfo("droplet-net", "0" * 64, "cpu"))
    image = load_image(encode_png(large), "large.png")
    best = max(predictor.find(load_image(encode_png(pixels), "small.png"), FindOptions()).masks, key=_score)
    x, y, w, h = best.bbox_xywh
    seen = runtime.looks
    (mask, *_) = predictor.predict(image, Prompt(((x + w / 2, y + h / 2),), (1,))).masks
    assert 0 < runtime.looks - seen <= 5  # windows round the click, each as small as the network's input
    assert iou(mask, best) > 0.8


def test_a_box_round_a_giant_takes_little_more_memory_than_the_picture(tmp_path):
    y, x = np.mgrid[:3200, :3200].astype(np.float32)
    rim = np.abs(np.hypot(x - 1600, y - 1600) - 900)
    image = load_image(encode_png(np.where(rim < 20, 40, 110).astype(np.uint8)), "giant.png")
    cache = EmbeddingCache(tmp_path, memory_bytes=10_000_000, disk_bytes=10_000_000)
    runtime = DropletRuntime(networks(), "cpu", TORCH_ALONE)
    predictor = DropletPredictor(runtime, cache, ModelInfo("droplet-net", "0" * 64, "cpu"))
    tracemalloc.start()
    (mask,) = predictor.predict(image, Prompt(box_xyxy=(700, 700, 2500, 2500))).masks
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 * np.sqrt(mask.area_px / np.pi) == pytest.approx(1800, rel=0.05)
    assert peak < 10 * image.pixels.nbytes


def _score(mask):
    return mask.score


def test_a_look_says_how_far_it_is_and_what_is_raised_ends_it():
    told: list[tuple[int, int]] = []
    pixels = np.random.default_rng(3).integers(0, 255, (130, 150, 1), np.uint8)
    runtime = DropletRuntime(networks(), "cpu")
    propose(runtime, pixels, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][0] == told[-1][1]
    assert all(done <= total for done, total in told)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        propose(runtime, pixels, stop)
