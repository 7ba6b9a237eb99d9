"""The command line as a user types it, in its own process."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sam_droplet.cli import main
from sam_droplet.imaging.images import encode_png, load_image_file
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


def test_several_images_give_one_table_on_standard_output(run, picture, tmp_path):
    gray = tmp_path / "gray.png"
    gray.write_bytes(encode_png(render_scene(3, "packed", 192).pixels[:, :, 0]))
    done = run("segment", picture, gray, picture, "--format", "csv")
    assert done.returncode == 1
    assert "gray.png: It has other channels than the first image" in done.stderr.decode()
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8-sig"))))
    ids = [int(row["id"]) for row in rows]
    assert ids == 2 * list(range(1, len(ids) // 2 + 1))
    assert {row["image"] for row in rows} == {"emulsion.png"}


def test_a_folder_of_images_is_sent_to_the_batch(here, capsys):
    assert main(["segment", "alone"]) == 1
    assert "sam-droplet: alone: It is a folder; `sam-droplet batch`" in capsys.readouterr().err


def test_several_label_images_need_a_folder(here, capsys):
    assert main(["segment", "picture.png", "file", "--format", "labels"]) == 1
    assert "need a folder" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_standard_output_that_is_full_is_told_in_one_line(picture, tmp_path):
    command = [sys.executable, "-m", "sam_droplet", "segment", str(picture), str(picture)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    told = "sam-droplet: Standard output cannot be written (No space left on device).\n"
    assert done.stderr.decode() == told


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


@pytest.fixture
def here(tmp_path, picture, monkeypatch):
    """Stand in a folder with a picture and with things that commands do not expect."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "picture.png").write_bytes(picture.read_bytes())
    (tmp_path / "file").write_bytes(b"not a folder, nor weights")
    (tmp_path / "odd.json").write_text('{"image": {"page": "first"}, "droplets": []}')
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/x.circles.json").write_text('{"circles": []}')
    return tmp_path


def test_no_picture_is_written_over_by_its_own_result(here, capsys):
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(here / name, render_scene(3, "packed", 192).pixels)
    raw = (here / "a.tif").read_bytes()
    assert main(["segment", "a.tif", "b.tif", "--format", "labels", "--output", "."]) == 1
    assert "a.tif is read" in capsys.readouterr().err
    assert (here / "a.tif").read_bytes() == raw


def test_two_pictures_do_not_share_one_file_of_results(here, capsys):
    (here / "picture.tif").write_bytes(b"never opened")
    assert main(["segment", "picture.png", "picture.tif", "--output", "results"]) == 1
    assert "only the last would stay" in capsys.readouterr().err
    assert not (here / "results").exists()


def test_folders_above_an_output_are_made_and_the_json_of_segment_is_no_settings_file(here, capsys):
    assert main(["segment", "picture.png", "--output", "new/deep/droplets.json"]) == 0
    assert json.loads((here / "new/deep/droplets.json").read_bytes())["image"] == "picture.png"
    assert main(["rerun", "new/deep/droplets.json", "picture.png"]) == 1
    assert "A settings.json was expected" in capsys.readouterr().err


def test_a_table_without_droplets_says_why(here, capsys):
    (here / "flat.png").write_bytes(encode_png(np.full((96, 96, 3), 120, np.uint8)))
    assert main(["segment", "flat.png", "--format", "csv", "--output", "flat.csv"]) == 0
    assert "sam-droplet: flat.png: 0 droplets: " in capsys.readouterr().err


WRONG_CALLS = {
    "segment picture.png --output file/droplets.json": "file/droplets.json cannot be written",
    "rerun odd.json picture.png": "A settings.json was expected",
    "model list mobile-sma": "There is no model named 'mobile-sma'",
    "model verify mobile-sma": "There is no model named 'mobile-sma'",
    "key create Ada --days -1": "--days must be a number above 0, but it is -1",
    "key create Ada --days nan": "--days must be a number above 0, but it is nan",
    "train --model mobile-sam --recipe tune": "MobileSAM has the recipes laptop, gpu, proof, smoke, not tune",
    "train --recipe smoke --start-from none.pt": "there is none at none.pt",
    "train --recipe smoke --start-from file": "; file holds none",
    "train --model mobile-sam --recipe smoke --start-from file": "file is not a MobileSAM checkpoint",
    "train --recipe smoke --folder file": "The folder file cannot be made",
    "benchmark accuracy --data nowhere": "nowhere holds none",
    "benchmark accuracy --data alone --parts changes": "picture x was expected beside alone/x.circles.json",
    "benchmark accuracy --output no/such/folder.json": "no/such/folder.json is in none",
    "benchmark speed --update nothing.md": "nothing.md is none",
}


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_a_wrong_call_ends_in_one_sentence(call, here, capsys):
    assert main(call.split()) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("sam-droplet: ")
    assert WRONG_CALLS[call] in printed
    assert len(printed.splitlines()) == 1
    assert "weights_only" not in printed  # torch's own sentence recommends to load such a file unsafely


@pytest.mark.parametrize(
    "damage",
    [
        {"provenance": "text"},
        {"provenance": {"parameters": {"rim_offset_px": "two"}}},
        {"assays": {"ddpcr": {}}},
    ],
)
def test_a_damaged_part_of_a_settings_file_is_told_in_one_sentence(damage, here, capsys):
    settings = {
        "image": {"digest": load_image_file(here / "picture.png").digest},
        "filters": {"ranges": {}, "exclude_edge": False},
        "droplets": [],
    }
    (here / "settings.json").write_text(json.dumps(settings))
    call = ["rerun", "settings.json", "picture.png", "--format", "methods", "--output", "methods.txt"]
    assert main(call) == 0
    (here / "settings.json").write_text(json.dumps(settings | damage))
    assert main(call) == 1
    printed = capsys.readouterr().err
    assert "a part is missing or damaged" in printed
    assert len(printed.splitlines()) == 1


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


def test_verifying_weights_that_are_not_here_fails(here, monkeypatch, capsys):
    monkeypatch.setenv("SAM_MODEL_PATH", "nowhere.pt")
    assert main(["model", "verify", "mobile-sam"]) == 1
    assert capsys.readouterr().out.splitlines() == ["mobile-sam: not here (nowhere.pt)"]


def test_ctrl_c_ends_in_one_sentence(picture, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "sam_droplet", "segment", *[picture] * 500],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data")},
        # A shell's background job, as these tests may be, passes on that it ignores Ctrl+C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline()  # it is at work
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed.decode().splitlines()) == (130, ["sam-droplet: stopped."])


def test_the_version_is_printed(run):
    assert run("--version").stdout.decode().startswith("sam-droplet 0.")
