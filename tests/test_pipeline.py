"""The façade on real and rendered micrographs: what it finds, how it answers clicks, what it says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_droplet.config import load_config
from sam_droplet.errors import InputError, ModelUnavailable
from sam_droplet.imaging.images import Image, encode_png, load_image, load_image_file
from sam_droplet.imaging.masks import iou, is_centred_in, rle_decode
from sam_droplet.imaging.synthetic import render_scene
from sam_droplet.pipeline import FindOptions, Prompt, Segmenter, result_as_dict
from sam_droplet.training.benchmark import FileCase, SceneCase, find_masks
from sam_droplet.training.emulsion_picture import emulsion_picture
from sam_droplet.training.metrics import figures

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real micrographs of ../shared/data are absent"
)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter(load_config({}, {"data_dir": tmp_path_factory.mktemp("data")}))


@pytest.fixture(scope="module")
def scene():
    return render_scene(5, "packed", 512)


@pytest.fixture(scope="module")
def image(scene):
    return load_image(encode_png(scene.pixels), "packed.png")


@needs_shared
@pytest.mark.parametrize("name", ["ddPCR_0_0", "bead_1"])
def test_real_micrographs_are_found_without_any_parameter(segmenter, name):
    case = FileCase.read(SHARED / f"{name}.circles.json")
    figure = figures([case.compare(find_masks(segmenter, case.image))])
    assert figure.f1["0.7"] >= 0.98
    assert abs(figure.count_error_percent) <= 1.5
    assert figure.diameter_error_percent <= 4.0


def test_stray_rings_among_droplets_of_one_size_are_left_out_and_told(segmenter):
    pixels, strays = emulsion_with_strays()
    image = load_image(encode_png(pixels), "strays.png")
    result = segmenter.find(image)
    assert result.parameters["n_much_smaller"] == len(strays)
    assert f"{len(strays)} more outlines are at most" in result.message
    assert min(d.measures.diameter_px for d in result.droplets) > 20
    everything = segmenter.find(image, FindOptions(diameter_min_px=0))
    assert len(everything.droplets) == len(result.droplets) + len(strays)
    assert everything.message is None
    x, y = strays[0]
    assert segmenter.predict(image, click(x, y)).droplets[0].measures.diameter_px == pytest.approx(15, abs=2)


def emulsion_with_strays():
    """Return 400 droplets of 47 px in 1024 x 1024 px, twelve places of them taken by rings of 15 px."""
    pixels = emulsion_picture(400, 1024)
    places = [(x, y) for x in (180, 400, 620, 840) for y in (200, 500, 800)]
    y, x = np.mgrid[:1024, :1024] + 0.5
    light = pixels.astype(np.float32)
    ground = float(np.median(light))
    for place_x, place_y in places:
        distance = np.hypot(x - place_x, y - place_y)
        light[distance < 60] = ground
        light -= (90 * np.exp(-(((distance - 7.4) / 1.5) ** 2)))[..., None]
    return light.clip(0, 255).astype(np.uint8), places


@needs_shared
@pytest.mark.parametrize("name", ["ddPCR_0_0.png", "bead_1.jpg"])
def test_a_click_on_any_real_droplet_outlines_that_droplet(segmenter, name):
    image = load_image_file(SHARED / name)
    truth = json.loads((SHARED / f"{name.split('.')[0]}.circles.json").read_text())["circles"]
    segmenter.find(image)
    rng, hits = np.random.default_rng(0), 0
    for x, y, r in truth:
        offset = rng.uniform(-0.5, 0.5, 2) * r
        result = segmenter.predict(image, click(x + 0.5 + offset[0], y + 0.5 + offset[1]))
        hits += bool(result.droplets) and abs(result.droplets[0].measures.diameter_px / (2 * r) - 1) < 0.15
    assert hits >= 0.97 * len(truth)


def click(x, y, *negative):
    points = ((x, y), *negative)
    return Prompt(points, (1,) + (0,) * len(negative))


def test_a_rendered_emulsion_is_found(segmenter, scene):
    case = SceneCase(scene)
    assert figures([case.compare(find_masks(segmenter, case.image))]).f1["0.7"] >= 0.95


def test_an_empty_picture_says_why_nothing_was_found(segmenter):
    flat = load_image(encode_png(np.full((200, 300, 3), 90, np.uint8)), "flat.png")
    result = segmenter.find(flat)
    assert result.droplets == []
    assert "0 droplets" in result.message


def test_three_small_bright_droplets_on_a_noisy_dark_ground_are_found(segmenter):
    y, x = np.mgrid[:512, :512] + 0.5
    nearest = np.min([np.hypot(x - a, y - b) for a, b in ((90, 140), (300, 200), (410, 420))], axis=0)
    noise = np.random.default_rng(2).normal(0, 3, nearest.shape)
    few = np.clip(12 + 150 * np.clip(9.5 - nearest, 0, 1) + noise, 0, 255).astype(np.uint8)
    found = segmenter.find(load_image(encode_png(few), "few.png")).droplets
    assert sorted(round(d.measures.diameter_px) for d in found) == pytest.approx([18] * 3, abs=1)


def test_a_lone_small_droplet_on_black_is_found_as_by_a_click(segmenter):
    y, x = np.mgrid[:512, :512] + 0.5
    lone = load_image(encode_png((180 * (np.hypot(x - 300, y - 200) < 9)).astype(np.uint8)), "lone.png")
    (found,) = segmenter.find(lone).droplets
    (clicked,) = segmenter.predict(lone, click(300, 200)).droplets
    assert found.measures.diameter_px == pytest.approx(18, abs=1)
    assert clicked.measures.diameter_px == pytest.approx(found.measures.diameter_px)


def test_a_channel_that_is_not_looked_at_does_not_change_what_is_found(segmenter, image):
    more = np.dstack([image.pixels, image.pixels[..., :1]]).astype(np.uint16)
    more[..., 3] *= 200
    four = replace(image, pixels=more, digest="four channels", channel_names=tuple("abcd"))
    boxes = [d.mask.box_xyxy for d in segmenter.find(four).droplets]
    assert boxes == [d.mask.box_xyxy for d in segmenter.find(image).droplets]


@pytest.mark.parametrize(("ground", "droplet"), [(12, 160), (160, 20)])
def test_a_few_droplets_on_a_wide_even_ground_are_found(segmenter, ground, droplet):
    rng, centres_xy = np.random.default_rng(5), [(300.0, 400.0), (1100.0, 350.0), (700.0, 1200.0)]
    y, x = np.mgrid[:1536, :1536] + 0.5
    inside = sum(1 / (1 + np.exp(np.clip(np.hypot(x - cx, y - cy) - 20, -50, 50))) for cx, cy in centres_xy)
    shades = ground + (droplet - ground) * inside + rng.normal(0, 2, inside.shape)
    wide = load_image(encode_png(np.clip(np.rint(shades), 0, 255).astype(np.uint8)), "wide.png")
    found = segmenter.find(wide).droplets
    assert [d.measures.diameter_px for d in found] == pytest.approx([40] * 3, abs=4)
    assert min(d.mask.score for d in found) > 0.9


def test_progress_tells_what_is_looked_at_and_then_what_is_measured(segmenter, image):
    seen = []
    result = segmenter.find(image, on_progress=lambda *at: seen.append(at))
    looked, measured = [at for at in seen if len(at) == 2], [at for at in seen if len(at) == 3]
    assert seen == looked + measured
    n = len(result.droplets)
    assert {total for _, total, _ in measured} == {n}
    done = [done for done, _, _ in measured]
    assert done == sorted(set(done))
    assert done[-1] == n
    assert {stage for _, _, stage in measured} == {"measuring"}


def test_size_limits_that_exclude_everything_are_named(segmenter, image):
    result = segmenter.find(image, FindOptions(diameter_min_px=400))
    assert result.droplets == []
    assert "size limits" in result.message


@pytest.mark.parametrize("options", [{}, {"magnification": 3.0}, {"rim_offset_px": 4.0}])
def test_the_sizes_in_a_message_are_those_that_are_measured(segmenter, image, options):
    def largest(**more):
        found = segmenter.find(image, FindOptions(roi_xyxy=(0, 0, 200, 200), **options, **more))
        told = re.search(r"to (\d+) px wide", found.message or "")
        return max(d.measures.diameter_px for d in found.droplets) if told is None else int(told[1])

    assert largest(diameter_min_px=1000) == pytest.approx(largest(), rel=0.1)


def test_outlines_of_which_the_rim_offset_leaves_nothing_are_told(segmenter, image):
    n = len(segmenter.find(image).droplets)
    result = segmenter.find(image, FindOptions(rim_offset_px=-99))
    assert result.droplets == []
    assert result.message == f"{n} outlines vanish: too small for a rim that is moved inwards by 99 px."


def test_only_the_region_asked_for_is_answered(segmenter, image):
    everywhere = segmenter.find(image).droplets
    part = segmenter.find(image, FindOptions(roi_xyxy=(0, 0, 256, 256))).droplets
    assert 0 < len(part) < len(everywhere)
    assert all(d.measures.center_x_px < 262 and d.measures.center_y_px < 262 for d in part)


def test_a_search_in_a_region_finds_all_that_it_replaces(segmenter, image):
    everywhere = [d.mask for d in segmenter.find(image).droplets]
    for x, y in np.random.default_rng(0).integers(0, 300, (20, 2)).tolist():
        region = (x, y, x + 200, y + 150)
        part = [d.mask.box_xyxy for d in segmenter.find(image, FindOptions(roi_xyxy=region)).droplets]
        assert part == [mask.box_xyxy for mask in everywhere if is_centred_in(mask, region)]


def cut_emulsion(first_column: int) -> Image:
    """Return an emulsion from a column on, so that droplets lie across its left border."""
    pixels = emulsion_picture(60, 400)[:, first_column:]
    return load_image(encode_png(np.ascontiguousarray(pixels)), "cut.png")


def test_the_whole_image_as_a_region_holds_the_droplets_that_its_border_cuts(segmenter):
    cut = cut_emulsion(44)
    region = (0, 0, cut.width, cut.height)
    everywhere, part = (segmenter.find(cut, FindOptions(roi_xyxy=roi)).droplets for roi in (None, region))
    assert [d.mask.box_xyxy for d in part] == [d.mask.box_xyxy for d in everywhere]


def test_more_sensitivity_never_finds_fewer(segmenter, image):
    counts = [len(segmenter.find(image, FindOptions(sensitivity=s)).droplets) for s in (0.0, 0.5, 1.0)]
    assert counts == sorted(counts)


def test_a_click_and_a_box_outline_the_same_droplet(segmenter, image):
    droplet = max(segmenter.find(image).droplets, key=lambda d: d.score)
    x, y, w, h = droplet.mask.bbox_xywh
    clicked = segmenter.predict(image, click(x + w / 2, y + h / 2)).droplets[0]
    boxed = segmenter.predict(image, Prompt(box_xyxy=(x - 2, y - 2, x + w + 2, y + h + 2))).droplets[0]
    assert clicked.measures.area_px == pytest.approx(droplet.measures.area_px, rel=0.05)
    assert boxed.measures.area_px == pytest.approx(droplet.measures.area_px, rel=0.1)
    assert (clicked.source, boxed.source) == ("point", "box")


def test_a_box_round_what_the_image_shows_of_a_cut_droplet_outlines_it(segmenter):
    cut = cut_emulsion(36)
    slivers = [d for d in segmenter.find(cut).droplets if d.mask.box_xyxy[0] == 0]
    assert min(d.mask.bbox_xywh[2] / d.mask.bbox_xywh[3] for d in slivers) < 0.4
    for droplet in slivers:
        boxed = segmenter.predict(cut, Prompt(box_xyxy=droplet.mask.box_xyxy)).droplets[0]
        assert boxed.score > 0.5
        assert iou(boxed.mask, droplet.mask) > 0.9


def test_a_negative_point_rules_its_droplet_out(segmenter, image):
    droplet = max(segmenter.find(image).droplets, key=lambda d: d.score)
    x, y, w, h = droplet.mask.bbox_xywh
    result = segmenter.predict(image, click(x + w / 2 - 2, y + h / 2, (x + w / 2 + 3, y + h / 2)))
    assert all(not _holds(d, x + w / 2 + 3, y + h / 2) for d in result.droplets)


@pytest.mark.parametrize(("label", "distance"), [(1, 1.08), (0, 0.92)])
def test_a_further_point_near_the_rim_moves_the_outline(segmenter, label, distance):
    lone, first = _lone_droplet(segmenter)
    x, y, w, h = first.mask.bbox_xywh
    further = (x + w / 2 + distance * w / 2, y + h / 2)
    (moved,) = segmenter.predict(lone, Prompt(((x + w / 2, y + h / 2), further), (1, label))).droplets
    assert _holds(moved, *further) == bool(label)
    assert moved.measures.diameter_px == pytest.approx(distance * first.measures.diameter_px, rel=0.06)


def test_points_that_no_growth_suits_bend_the_outline(segmenter):
    lone, first = _lone_droplet(segmenter)
    x, y, w, h = first.mask.bbox_xywh
    middle, right, left = ((x + w / 2 + share * w / 2, y + h / 2) for share in (0, 1.15, -0.85))
    (bent,) = segmenter.predict(lone, Prompt((middle, right, left), (1, 1, 0))).droplets
    assert _holds(bent, *right)
    assert not _holds(bent, *left)
    assert bent.measures.diameter_px == pytest.approx(first.measures.diameter_px, rel=0.05)
    far = segmenter.predict(lone, Prompt((middle, (x + 2 * w, y + h / 2)), (1, 1)))
    assert far.droplets == []
    assert "all of these points" in far.message


def _lone_droplet(segmenter):
    """Return a picture and the droplet in it that is surest of those round which there is room."""
    lone = load_image(encode_png(emulsion_picture(60, 400)), "lone.png")
    roomy = [
        droplet
        for droplet in segmenter.find(lone).droplets
        if min(droplet.mask.box_xyxy) > 20 and max(droplet.mask.box_xyxy) < 380
    ]
    return lone, max(roomy, key=lambda d: d.score)


def _holds(droplet, x, y):
    x0, y0, x1, y1 = droplet.mask.box_xyxy
    return x0 <= x < x1 and y0 <= y < y1 and bool(droplet.mask.bits[int(y) - y0, int(x) - x0])


def test_a_click_on_background_says_so(segmenter):
    flat = load_image(encode_png(np.full((200, 300, 3), 90, np.uint8)), "flat.png")
    result = segmenter.predict(flat, click(150, 100))
    assert result.droplets == []
    assert "background" in result.message


def test_a_box_without_a_rim_gives_its_ellipse_and_says_so(segmenter):
    flat = load_image(encode_png(np.full((200, 300, 3), 90, np.uint8)), "flat.png")
    result = segmenter.predict(flat, Prompt(box_xyxy=(40, 40, 100, 80)))
    assert result.droplets[0].measures.area_px == pytest.approx(np.pi * 30 * 20, rel=0.02)
    assert result.droplets[0].score == 0
    assert "No rim" in result.message


def test_mobile_sam_without_weights_is_refused_with_the_cure(segmenter, image):
    with pytest.raises(ModelUnavailable, match="model fetch"):
        segmenter.predict(image, click(100, 100), model="mobile-sam")
    with pytest.raises(InputError, match="one of"):
        segmenter.predict(image, click(100, 100), model="yolo")


def test_missing_weights_are_named(tmp_path, image):
    config = load_config({}, {"data_dir": tmp_path, "droplet_model_path": tmp_path / "none.safetensors"})
    with pytest.raises(ModelUnavailable, match=r"none\.safetensors"):
        Segmenter(config).find(image)


def test_damaged_weights_are_named(tmp_path, image):
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    config = load_config({}, {"data_dir": tmp_path, "droplet_model_path": tmp_path / "bad.safetensors"})
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        Segmenter(config).find(image)


def test_the_printed_result_names_model_parameters_and_timings(segmenter, image):
    result = segmenter.find(image)
    printed = json.loads(json.dumps(result_as_dict(image, result, None)))
    assert printed["model"]["name"] == "droplet-net"
    assert len(printed["model"]["sha256"]) == 64
    assert printed["parameters"]["sensitivity"] == 0.5
    assert set(printed["timings_s"]) >= {"propose", "select", "fill"}
    first = printed["droplets"][0]
    assert rle_decode(first["segmentation"]).area_px == first["area_px"]
    assert printed["summary"]["n_found"] == len(printed["droplets"])


def test_16_bit_pixels_are_found_like_8_bit_ones(segmenter, scene):
    grey = scene.pixels.mean(axis=2).astype(np.uint16)
    eight = load_image(encode_png(grey.astype(np.uint8)), "8.png")
    sixteen = load_image(encode_png(grey * 16), "12in16.png")
    a, b = segmenter.find(eight).droplets, segmenter.find(sixteen).droplets
    assert len(a) == pytest.approx(len(b), abs=2)
    assert len(b) > 50
    # Intensities stay at the file's own depth: nothing is clipped at 255.
    assert b[0].measures.mean_intensity == pytest.approx(16 * a[0].measures.mean_intensity, rel=0.01)
