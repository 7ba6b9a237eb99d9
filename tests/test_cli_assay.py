"""ddPCR and loading from the command line, on a rendered field with known positives and known beads."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from sam_droplet.imaging.images import encode_png, load_image_file
from sam_droplet.imaging.synthetic import SAMPLES, render_sample, render_scene

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
# The emulsion sample: clear brightfield droplets of two sizes.
SAMPLE = next(sample for sample in SAMPLES if sample.name == "emulsion")


def assay(tmp_path, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "sam_droplet", "assay", *map(str, arguments)],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data")},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def field(tmp_path):
    """A brightfield picture, its true shapes, and a painter of second pictures."""
    (tmp_path / "brightfield.png").write_bytes(encode_png(render_sample(SAMPLE.name)))
    shapes = render_scene(SAMPLE.seed, SAMPLE.stratum, SAMPLE.size).shapes

    def paint(name, polygons, grey):
        picture = np.full((SAMPLE.size, SAMPLE.size), 12.0, np.float32)
        for polygon in polygons:
            cv2.fillPoly(picture, [np.round((polygon - 0.5) * 16).astype(np.int32)], grey, cv2.LINE_AA, 4)
        picture += np.random.default_rng(0).normal(0, 1.0, picture.shape)
        (tmp_path / name).write_bytes(encode_png(np.clip(picture, 0, 255).astype(np.uint8)))

    return shapes, paint


def test_ddpcr_counts_the_true_positives(tmp_path, field):
    shapes, paint = field
    positive = np.zeros(len(shapes), bool)
    positive[::4] = True
    paint("green.png", shapes.polygons(48)[positive], 160)
    code, out, err = assay(
        tmp_path, "ddpcr", "brightfield.png", "--fluorescence", "green.png", "--um-per-px", "1.5",
        "--shift-px", "0", "0", "--preset", "none", "--output", "all.zip",
    )  # fmt: skip
    assert code == 0, err
    printed = json.loads(out)
    estimate = printed["ddpcr"]["estimate"]
    assert estimate["k"] / estimate["n"] == pytest.approx(positive.mean(), abs=0.04)
    assert estimate["copies_per_ul"] > 0
    assert printed["calibration_source"] == "typed"
    with zipfile.ZipFile(io.BytesIO((tmp_path / "all.zip").read_bytes())) as archive:
        assert any(name.endswith("settings.json") for name in archive.namelist())


def test_loading_counts_the_true_beads(tmp_path, field):
    shapes, paint = field
    angle = np.arange(16) * np.pi / 8
    bead = 3.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    inner = ((shapes.centre_xy > 40) & (shapes.centre_xy < SAMPLE.size - 40)).all(axis=1)
    loaded = shapes.centre_xy[inner][::3]
    paint("beads.png", loaded[:, None] + bead, 220)
    code, out, err = assay(
        tmp_path, "loading", "brightfield.png", "--inclusions", "beads.png", "--preset", "none"
    )
    assert code == 0, err
    loading = json.loads(out)["loading"]
    assert loading["n_inclusions"] == pytest.approx(len(loaded), abs=0.08 * len(loaded))
    assert loading["multiple_share"] < 0.02


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real micrographs of ../shared/data are absent")
def test_the_real_pair_gives_a_defensible_concentration(tmp_path):
    code, out, err = assay(
        tmp_path, "ddpcr", SHARED / "ddPCR_0_0.png", "--fluorescence", SHARED / "ddPCR_0_1.png",
        "--um-per-px", "1.11",
    )  # fmt: skip
    assert code == 0, err
    ddpcr = json.loads(out)["ddpcr"]
    assert ddpcr["shift"]["reliable"]
    assert 20 <= ddpcr["estimate"]["k"] <= 35  # about 25 are clearly positive
    assert 500 <= ddpcr["estimate"]["n"] <= 700  # whole droplets of the common size, in both pictures


@pytest.mark.parametrize("number", ["0", "-2"])
def test_an_impossible_scale_is_refused(tmp_path, field, number):
    _, paint = field
    paint("green.png", [], 0)
    code, _, err = assay(
        tmp_path, "ddpcr", "brightfield.png", "--fluorescence", "green.png", f"--um-per-px={number}"
    )
    assert code == 1
    assert "--um-per-px" in err
    assert "Traceback" not in err


def test_the_settings_of_a_bundle_give_the_same_files_again(tmp_path, field):
    shapes, paint = field
    paint("green.png", shapes.polygons(48)[::4], 160)
    code, _, err = assay(
        tmp_path, "ddpcr", "brightfield.png", "--fluorescence", "green.png", "--um-per-px", "1.5",
        "--shift-px", "0", "0", "--rim-offset-px", "1.5", "--chamber-height-um", "20",
        "--output", "all.zip",
    )  # fmt: skip
    assert code == 0, err
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        (tmp_path / "settings.json").write_bytes(archive.read("settings.json"))
        files = {name: archive.read(name) for name in archive.namelist()}
    # One process for all files: the bundle holds each of them.
    done = subprocess.run(
        [sys.executable, "-m", "sam_droplet", "rerun", "settings.json", "brightfield.png",
         "--format", "bundle", "--output", "again.zip"],
        capture_output=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    with zipfile.ZipFile(tmp_path / "again.zip") as archive:
        again = {name: archive.read(name) for name in archive.namelist()}
    dated = ("README.txt", "brightfield_droplets.xlsx", "brightfield_labels.ome.tif")
    assert set(files) - set(again) == {"brightfield_pair.png"}  # the only one that needs the second picture
    assert [name for name in again if name not in dated and again[name] != files[name]] == []
    settings = json.loads(files["settings.json"])
    assert settings["rim_offset_px"] == 1.5
    assert settings["calibration"] == {"um_per_px": 1.5, "source": "typed", "chamber_height_um": 20.0}
    assert "chamber, 20 µm high" in files["brightfield_methods.txt"].decode()
    assert b",20.0,1.5,0\r\n" in files["brightfield_droplets.csv"]


def test_the_second_picture_may_be_another_page_of_the_same_file(tmp_path, field):
    shapes, paint = field
    paint("green.png", shapes.polygons(48)[::4], 160)
    pages = [load_image_file(tmp_path / name).pixels[:, :, 0] for name in ("brightfield.png", "green.png")]
    tifffile.imwrite(tmp_path / "field.tif", np.stack(pages), photometric="minisblack")
    code, out, err = assay(
        tmp_path, "ddpcr", "field.tif", "--second-page", "1", "--shift-px", "0", "0", "--preset", "none"
    )
    assert code == 0, err
    estimate = json.loads(out)["ddpcr"]["estimate"]
    assert estimate["k"] / estimate["n"] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ddpcr", "--threshold", "nan"),
        ("ddpcr", "--dilution", "inf"),
        ("ddpcr", "--shift-px", "nan", "0"),
        ("ddpcr", "--um-per-px", "inf"),
        ("loading", "--stock-per-ml", "nan"),
    ],
)
def test_what_is_no_number_gives_no_result(tmp_path, field, arguments):
    kind, *more = arguments
    code, out, err = assay(tmp_path, kind, "brightfield.png", "--um-per-px", "1.5", *more)
    assert (code, out) == (2, "")
    assert "a number such as 0.5, with a point, was expected" in err


@pytest.mark.parametrize(("kind", "option"), [("ddpcr", "--fluorescence"), ("loading", "--inclusions")])
def test_pictures_of_unlike_size_are_no_pair(tmp_path, field, kind, option):
    (tmp_path / "binned.png").write_bytes(encode_png(np.zeros((SAMPLE.size // 2,) * 2, np.uint8)))
    code, out, err = assay(tmp_path, kind, "brightfield.png", option, "binned.png")
    assert (code, out) == (1, "")
    assert "Both pictures of a field must have the same size" in err
