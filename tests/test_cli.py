"""The command line as a user types it, in its own process."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.masks import rle_decode
from sam_droplet.imaging.synthetic import render_scene

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "emulsion.png"
    path.write_bytes(encode_png(render_scene(3, "packed", 384).pixels))
    return path


@pytest.fixture
def run(tmp_path):
    def call(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "sam_droplet", *map(str, arguments)],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data"), **environment},
            check=False,
        )

    return call


def test_json_on_standard_output_has_the_documented_fields(run, picture):
    done = run("segment", picture, "--um-per-px", 0.5)
    assert done.returncode == 0, done.stderr.decode()
    printed = json.loads(done.stdout)
    assert (printed["image"], printed["width"], printed["height"]) == ("emulsion.png", 384, 384)
    assert printed["um_per_px"] == 0.5
    droplet = printed["droplets"][0]
    assert droplet["diameter_um"] == pytest.approx(0.5 * droplet["diameter_px"], rel=1e-5)
    mask = rle_decode(droplet["segmentation"])
    assert list(mask.bbox_xywh) == droplet["bbox"]
    assert mask.area_px == droplet["area_px"]
    for name in ("id", "center_x_px", "center_y_px", "circularity", "score"):
        assert isinstance(droplet[name], (int, float))


def test_several_images_give_one_json_line_each(run, picture):
    lines = run("segment", picture, picture).stdout.splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["emulsion.png", "emulsion.png"]


def test_csv_and_labels_hold_the_same_droplets_as_json(run, picture, tmp_path):
    printed = json.loads(run("segment", picture).stdout)
    table = run("segment", picture, "--format", "csv").stdout.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [float(row["area_px"]) for row in rows] == [d["area_px"] for d in printed["droplets"]]
    run("segment", picture, "--format", "labels", "--output", tmp_path / "labels.tif")
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == (384, 384)
    assert len(np.unique(labels)) - 1 == len(rows)


def test_what_does_not_count_is_told_with_its_reason(run, picture):
    printed = json.loads(run("segment", picture, "--exclude-edge", "--circularity-min", 0.5).stdout)
    out = [d for d in printed["droplets"] if not d["included"]]
    at_edge = [d for d in printed["droplets"] if d["touches_edge"]]
    assert {d["id"] for d in at_edge} <= {d["id"] for d in out}
    assert at_edge
    assert all(d["exclusion_reason"] for d in out)
    assert printed["summary"]["n_included"] == len(printed["droplets"]) - len(out)


def test_one_bad_file_does_not_stop_the_others(run, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    done = run("segment", "bad.png", "missing.png", picture)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    errors = done.stderr.decode().splitlines()
    assert any("bad.png" in line for line in errors)
    assert any("missing.png" in line for line in errors)


@pytest.mark.parametrize(
    "arguments",
    [("--um-per-px", "-1"), ("--sensitivity", "7"), ("--diameter-min-px", "9", "--diameter-max-px", "3")],
)
def test_wrong_numbers_are_refused_in_a_sentence(run, picture, arguments):
    done = run("segment", picture, *arguments)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"sam-droplet: ")


@pytest.mark.parametrize("value", ["1,11", "nan", "inf", "half"])
def test_what_is_no_number_is_a_wrong_call_that_says_how_to_write_one(run, picture, value):
    done = run("segment", picture, "--um-per-px", value)
    assert done.returncode == 2
    assert f"a number such as 0.5, with a point, was expected, not '{value}'" in done.stderr.decode()


@pytest.mark.parametrize("value", ["1e-300", "1e300"])
def test_a_scale_that_no_picture_has_is_refused_in_a_sentence(run, picture, value):
    done = run("segment", picture, "--um-per-px", value)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("sam-droplet: ")
    assert "--um-per-px must be from" in done.stderr.decode()


def test_a_wrong_setting_stops_the_start_with_one_sentence(run):
    done = run("settings", FLASK_PORT="99999")
    assert done.returncode == 1
    assert b"FLASK_PORT" in done.stderr
    assert b"Traceback" not in done.stderr


def test_settings_are_printed_with_secrets_masked(run):
    shown = run("settings", ADMIN_KEY="very-secret").stdout.decode()
    assert "very-secret" not in shown
    assert "FLASK_PORT=9487" in shown


def test_model_list_names_both_networks(run):
    rows = [json.loads(line) for line in run("model", "list").stdout.splitlines()]
    assert {row["name"]: row["available"] for row in rows}["droplet-net"] is True


def test_the_version_is_printed(run):
    assert run("--version").stdout.decode().startswith("sam-droplet 0.")
