"""Many images from the command line: one table, one bad file, crashes, shards, and going on."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam_droplet.cli import main
from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.synthetic import render_scene

ROOT = Path(__file__).parents[1]
N_IMAGES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of small emulsions."""
    folder = tmp_path_factory.mktemp("micrographs")
    for seed in range(N_IMAGES):
        pixels = render_scene(seed, "packed", 192).pixels
        (folder / f"field-{seed}.png").write_bytes(encode_png(pixels))
    (folder / "notes.txt").write_text("not an image, and not looked at")
    return folder


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """Return the output of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(["batch", str(folder), "--output", str(output), "--format", "csv", "--format", "labels"]) == 0
    return output


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


def batch(folder, output, *more) -> int:
    return main(["batch", str(folder), "--output", str(output), *map(str, more)])


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))


def test_the_table_is_that_of_every_image_and_the_summary_has_a_line_for_each(whole):
    own = [r for name in _names(whole) for r in rows(_droplets_csv(whole, name))]
    together = rows(whole / "droplets.csv")
    assert together == own
    assert len(together) > 20
    summary = rows(whole / "summary.csv")
    assert [line["image"] for line in summary] == [f"field-{i}.png" for i in range(N_IMAGES)]
    assert {line["state"] for line in summary} == {"done"}
    for line in summary:
        n = [r["included"] for r in together if r["image"] == line["image"]].count("true")
        assert int(line["n_included"]) == n
        assert line["model"] == "droplet-net"
        assert len(line["model_sha256"]) == 64
    assert (whole / "images" / "field-0.png" / "field-0_labels.tif").exists()


def _names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "images").iterdir())


def _droplets_csv(output: Path, name: str) -> Path:
    return output / "images" / name / f"{Path(name).stem}_droplets.csv"


def test_one_bad_file_stops_no_other_and_the_exit_status_tells(folder, tmp_path, capsys):
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    missing = tmp_path / "missing.png"
    status = main(
        ["batch", str(bad), str(missing), str(folder / "field-1.png"), "--output", str(tmp_path / "o")]
    )
    assert status == 1
    lines = rows(tmp_path / "o" / "summary.csv")
    assert [line["state"] for line in lines] == ["failed", "failed", "done"]
    assert "cannot be read" in lines[1]["message"]
    assert {r["image"] for r in rows(tmp_path / "o" / "droplets.csv")} == {"field-1.png"}
    told = capsys.readouterr().err
    assert "[3/3] field-1.png" in told
    assert "1 of 3 images measured" in told


def test_settings_hold_for_every_image(folder, tmp_path):
    options = ("--um-per-px", 0.5, "--diameter-min-um", 12, "--exclude-edge", "--circularity-min", 0.8)
    assert batch(folder, tmp_path / "o", *options, "--format", "json") == 0
    for row in rows(tmp_path / "o" / "droplets.csv"):
        assert float(row["diameter_um"]) == pytest.approx(0.5 * float(row["diameter_px"]), rel=1e-5)
        at_edge, round_enough = row["touches_edge"] == "true", float(row["circularity"]) >= 0.8
        assert at_edge or float(row["diameter_um"]) > 11  # found by the outline, measured on the pixels
        assert (row["included"] == "true") == (round_enough and not at_edge)
    result = json.loads((tmp_path / "o" / "images" / "field-0.png" / "field-0.json").read_text())
    assert result["um_per_px"] == 0.5
    assert result["summary"]["n_excluded"] == sum(not d["included"] for d in result["droplets"])


def test_sizes_in_um_need_a_scale_and_say_so(folder, tmp_path):
    assert batch(folder / "field-0.png", tmp_path / "o", "--diameter-min-um", 5) == 1
    assert "--um-per-px" in rows(tmp_path / "o" / "summary.csv")[0]["message"]


def test_resume_does_what_is_missing_and_nothing_twice(folder, whole, tmp_path):
    output = tmp_path / "o"
    formats = ("--format", "csv", "--format", "labels")
    first = [folder / f"field-{i}.png" for i in range(2)]
    assert main(["batch", *map(str, first), "--output", str(output), *formats]) == 0
    done = {p: p.stat().st_mtime_ns for p in (output / "records").iterdir()}
    assert batch(folder, output, *formats, "--resume") == 0
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert (output / "droplets.csv").read_bytes() == (whole / "droplets.csv").read_bytes()


def test_resume_writes_a_file_that_was_deleted_again(folder, tmp_path):
    call = (folder / "field-0.png", tmp_path / "o", "--format", "csv", "--format", "json", "--resume")
    assert batch(*call) == 0
    file = _droplets_csv(tmp_path / "o", "field-0.png")
    written = file.read_bytes()
    file.unlink()
    assert batch(*call) == 0
    assert file.read_bytes() == written


def test_resume_with_other_settings_or_pixels_does_it_anew(folder, tmp_path):
    path, output = tmp_path / "a.png", tmp_path / "o"
    path.write_bytes((folder / "field-0.png").read_bytes())
    record = output / "records" / "a.png.json"
    stamps = []
    for change in (
        lambda: None,
        lambda: None,
        lambda: path.write_bytes((folder / "field-1.png").read_bytes()),
    ):
        change()
        assert batch(path, output, "--resume") == 0
        stamps.append(record.stat().st_mtime_ns)
    assert batch(path, output, "--resume", "--sensitivity", 0.6) == 0
    stamps.append(record.stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2] < stamps[3]
    record.write_text("{torn")
    assert batch(path, output, "--resume", "--sensitivity", 0.6) == 0
    assert json.loads(record.read_text())["summary"]["state"] == "done"


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(folder, whole, tmp_path):
    output = tmp_path / "o"
    arguments = ["batch", str(folder), "--output", str(output), "--format", "csv", "--format", "labels"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sam_droplet", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 60
    while len(list((output / "records").glob("*.json")) if output.exists() else []) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    assert main([*arguments, "--resume"]) == 0
    assert (output / "droplets.csv").read_bytes() == (whole / "droplets.csv").read_bytes()
    for name in _names(whole):
        assert _droplets_csv(output, name).read_bytes() == _droplets_csv(whole, name).read_bytes()


def test_shards_share_the_images_and_a_last_run_joins_them(folder, whole, tmp_path):
    output = tmp_path / "o"
    formats = ("--format", "csv", "--format", "labels")
    for shard in ("0/3", "1/3", "2/3"):
        assert batch(folder, output, *formats, "--shard", shard) == 0
    parts = [rows(output / f"summary-{i}-of-3.csv") for i in range(3)]
    assert sorted(line["image"] for part in parts for line in part) == [
        f"field-{i}.png" for i in range(N_IMAGES)
    ]
    stamps = [p.stat().st_mtime_ns for p in sorted((output / "records").iterdir())]
    assert batch(folder, output, *formats, "--resume") == 0
    assert [p.stat().st_mtime_ns for p in sorted((output / "records").iterdir())] == stamps
    assert (output / "droplets.csv").read_bytes() == (whole / "droplets.csv").read_bytes()


@pytest.mark.parametrize("other", ["a.png", "A.PNG"])  # the same file on Windows and macOS
def test_images_of_one_name_in_two_folders_keep_apart(folder, tmp_path, other):
    for place in ("monday", "tuesday"):
        (tmp_path / place).mkdir()
    (tmp_path / "monday" / "a.png").write_bytes((folder / "field-0.png").read_bytes())
    (tmp_path / "tuesday" / other).write_bytes((folder / "field-1.png").read_bytes())
    assert batch(tmp_path, tmp_path / "o", "--recursive") == 0
    names = [line["image"] for line in rows(tmp_path / "o" / "summary.csv")]
    assert len({name.casefold() for name in names}) == 2
    assert all("-" in name for name in names)
    assert {r["image"] for r in rows(tmp_path / "o" / "droplets.csv")} == set(names)


def test_an_image_that_is_named_in_two_ways_counts_once(folder, tmp_path):
    output, image = tmp_path / "out", folder / "field-0.png"
    again = folder / ".." / folder.name / "field-0.png"
    assert main(["batch", str(image), str(again), "--output", str(output)]) == 0
    assert [line["image"] for line in rows(output / "summary.csv")] == ["field-0.png"]
    ids = [row["id"] for row in rows(output / "droplets.csv")]
    assert len(ids) == len(set(ids)) > 0


def test_what_a_run_wrote_below_its_own_images_is_not_measured_by_the_next(folder, tmp_path):
    plate = tmp_path / "plate"
    (plate / "images" / "left").mkdir(parents=True)
    (plate / "images" / "left" / "a.png").write_bytes((folder / "field-0.png").read_bytes())
    for output in (plate / "results", plate):
        call = (plate, output, "--recursive", "--format", "labels", "--resume")
        assert [batch(*call), batch(*call)] == [0, 0]
        assert [line["image"] for line in rows(output / "summary.csv")] == ["a.png"]
        shutil.rmtree(plate / "results", ignore_errors=True)


def test_hidden_files_of_a_folder_are_left_out_unless_they_are_named(folder, tmp_path):
    plate, hidden = tmp_path / "plate", tmp_path / "plate" / "._a.png"
    (plate / ".thumbnails").mkdir(parents=True)
    for path in (plate / "a.png", plate / ".thumbnails" / "a.png"):
        path.write_bytes((folder / "field-0.png").read_bytes())
    hidden.write_bytes(b"\x00\x05\x16\x07 what macOS keeps beside a file")
    assert batch(plate, tmp_path / "o", "--recursive") == 0
    assert [line["image"] for line in rows(tmp_path / "o" / "summary.csv")] == ["a.png"]
    assert batch(hidden, tmp_path / "o") == 1
    assert [line["image"] for line in rows(tmp_path / "o" / "summary.csv")] == ["._a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_a_file_name_that_is_no_unicode_ends_no_table(folder, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/20\xb5m.png"))
    odd.write_bytes((folder / "field-0.png").read_bytes())
    assert main(["batch", str(odd), str(odd) + "x", "--output", str(tmp_path / "o")]) == 1
    done, failed = rows(tmp_path / "o" / "summary.csv")
    assert (done["image"], failed["state"]) == (r"20\udcb5m.png", "failed")
    assert {row["image"] for row in rows(tmp_path / "o" / "droplets.csv")} == {done["image"]}


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no more for a whole path")
def test_a_long_file_name_stops_no_batch(folder, tmp_path):
    long = tmp_path / f"{'x' * 240}.png"
    long.write_bytes((folder / "field-0.png").read_bytes())
    assert batch(long, tmp_path / "o", "--format", "csv") == 0
    assert [line["image"] for line in rows(tmp_path / "o" / "summary.csv")] == [long.name]


@pytest.mark.parametrize("shard", ["3/3", "x", "-1/2", "1"])
def test_a_wrong_shard_is_a_wrong_call(folder, tmp_path, shard, capsys):
    with pytest.raises(SystemExit) as ended:
        batch(folder, tmp_path / "o", f"--shard={shard}")
    assert ended.value.code == 2
    assert "from 0 to N-1" in capsys.readouterr().err


def test_a_file_of_two_pictures_is_not_offered(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(folder), "--output", str(tmp_path / "out"), "--format", "pair"])
    assert ended.value.code == 2
    assert "invalid choice: 'pair'" in capsys.readouterr().err


def test_a_folder_without_images_is_told(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert batch(tmp_path / "empty", tmp_path / "o") == 1
    assert "There is no image" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_in_one_line(folder, tmp_path, capsys):
    (tmp_path / "o").write_text("a file where the folder should be")
    assert batch(folder, tmp_path / "o") == 1
    assert "cannot be written" in capsys.readouterr().err
