"""The benchmark judges a perfect finder as perfect and writes its table where it belongs."""

import json

import numpy as np
import pytest

from sam_droplet.config import load_config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.imaging.synthetic import render_scene
from sam_droplet.segmentation.stars import unit_rays
from sam_droplet.training.benchmark import OURS, FileCase, SceneCase, accuracy_report, update_page
from sam_droplet.training.classical import CLASSICAL
from sam_droplet.training.metrics import figures


def test_the_truth_of_a_scene_scores_perfectly():
    scene = render_scene(5, "polydisperse", 256)
    case = SceneCase(scene)
    masks = [mask_from_polygon(p, 0.9, (256, 256)) for p in scene.shapes.polygons(96)]
    figure = figures([case.compare([m for m in masks if m is not None])])
    assert figure.f1["0.9"] == pytest.approx(1.0)
    assert figure.diameter_error_percent == pytest.approx(0.0)


def test_the_truth_of_a_file_scores_perfectly_and_pixel_centres_are_at_halves(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((100, 120, 3), np.uint8)))
    truth = {"circles": [[30, 40, 12], [80, 50, 15]], "ignore": [[60, 80, 9]]}
    (tmp_path / "a.circles.json").write_text(json.dumps(truth))
    case = FileCase.read(tmp_path / "a.circles.json")
    discs = [(30.5, 40.5, 12), (80.5, 50.5, 15), (60.5, 80.5, 9)]
    masks = [mask_from_polygon(np.array([x, y]) + r * unit_rays(96), 1.0, (100, 120)) for x, y, r in discs]
    figure = figures([case.compare(masks)])
    assert figure.f1["0.9"] == pytest.approx(1.0)
    assert figure.n_found == 2


def test_a_file_is_judged_beside_the_classical_methods_in_a_process_of_its_own(tmp_path):
    scene = render_scene(4, "second layer", 384)
    (tmp_path / "drops.png").write_bytes(encode_png(scene.pixels))
    circles, doubtful = (
        np.column_stack([shapes.centre_xy - 0.5, shapes.equivalent_radii()])
        for shapes in (scene.shapes, scene.ignored)
    )
    x, y, r = circles.T
    whole = (x > r) & (y > r) & (x < 383 - r) & (y < 383 - r)
    truth = {
        "circles": circles[whole].tolist(),
        "ignore": [*circles[~whole].tolist(), *doubtful.tolist()],
    }
    (tmp_path / "drops.circles.json").write_text(json.dumps(truth))
    said: list[str] = []
    report = accuracy_report(load_config({"DATA_DIR": str(tmp_path / "data")}), tmp_path, 0, said.append)
    assert said == ["1 of 1 pictures judged"]
    assert set(report.figures) == {OURS, *CLASSICAL}
    assert all(set(groups) == {"drops"} for groups in report.figures.values())
    assert report.figures[OURS]["drops"].f1["0.7"] > 0.9
    assert report.figures[OURS]["drops"].n_true == whole.sum()
    assert "| drops |" in report.as_table()


def test_without_any_picture_the_table_is_empty(tmp_path):
    said: list[str] = []
    report = accuracy_report(load_config({"DATA_DIR": str(tmp_path)}), None, 0, said.append)
    assert report.figures == {OURS: {}, **{name: {} for name in CLASSICAL}}
    assert said == []


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_classical_methods_find_plain_bright_discs(name):
    rng = np.random.default_rng(0)
    picture = np.full((256, 256), 40.0)
    y, x = np.mgrid[:256, :256] + 0.5
    for cx in range(40, 256, 60):
        for cy in range(40, 256, 60):
            picture[np.hypot(x - cx, y - cy) < 20] = 180
    picture += rng.normal(0, 2, picture.shape)
    from sam_droplet.imaging.images import load_image

    image = load_image(encode_png(np.clip(picture, 0, 255).astype(np.uint8)), "discs.png")
    assert max(len(masks) for masks in CLASSICAL[name](image, np.full(16, 20.0))) >= 14


def test_the_table_replaces_what_stood_between_the_marks(tmp_path):
    page = tmp_path / "card.md"
    page.write_text("a\n<!-- accuracy -->\nold\n<!-- /accuracy -->\nb\n")
    update_page(page, "accuracy", "| new |")
    assert page.read_text() == "a\n<!-- accuracy -->\n| new |\n<!-- /accuracy -->\nb\n"
    page.write_text("no marks")
    with pytest.raises(InputError, match="accuracy"):
        update_page(page, "accuracy", "x")
