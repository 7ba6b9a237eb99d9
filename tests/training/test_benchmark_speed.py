"""The speed benchmark measures what it says, in processes of their own, and its tables can be read."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sam_droplet import cli
from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.masks import mask_from_bits
from sam_droplet.training import speed_beside_stock, speed_tasks
from sam_droplet.training.benchmark_speed import _in_new_process, machine
from sam_droplet.training.emulsion_picture import emulsion_picture
from sam_droplet.training.process_meter import Times
from sam_droplet.training.speed_beside_stock import mean_iou
from sam_droplet.training.speed_report import BigRow, ComparedRow, FindRow, SpeedReport
from sam_droplet.training.speed_tasks import Task, changed
from sam_droplet.training.stock_sam import is_installed


@pytest.mark.parametrize("n_droplets", [100, 900])
def test_a_picture_holds_as_many_droplets_as_asked_for_and_has_no_seam(n_droplets):
    picture = emulsion_picture(n_droplets, 512)
    assert picture.shape == (512, 512, 3)
    twice = np.tile(picture, (2, 2, 1))[128:640, 128:640, 0]  # the seam in the middle, other cuts at the edge
    inside = cv2.GaussianBlur(twice, (0, 0), 1) > 162
    _, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    assert abs((sizes > 0.5 * np.median(sizes)).sum() / n_droplets - 1) < 0.2
    steps = np.abs(np.diff(twice.astype(int), axis=1)).mean(axis=0)
    assert steps[383] < 2 * np.median(steps)


def test_a_changed_picture_is_another_with_the_same_droplets():
    png = encode_png(emulsion_picture(20, 128))
    assert len({png, changed(png, 1), changed(png, 2)}) == 3


def test_find_droplets_is_measured_in_a_process_of_its_own():
    task = Task(encode_png(emulsion_picture(60, 256)), 1, 2, None, {})
    measured = _in_new_process(speed_tasks.find_droplets, task)
    assert abs(measured["n_droplets"] - 60) < 15
    assert len(measured["warm"].wall_s) == len(measured["warm"].cpu_s) == 2
    assert 0 < measured["peak_growth_mib"] < 500
    assert measured["again"].cpu_s[0] < 0.8 * measured["warm"].median_cpu_s  # no network runs again
    assert set(measured["stages_s"]) == {"propose", "select", "fill"}


@pytest.mark.skipif(not is_installed(), reason="the dev dependency mobilesam-mirror is not installed")
def test_the_stock_is_measured_on_the_same_picture_and_weights():
    task = Task(encode_png(emulsion_picture(60, 256)), 2, 1, None, {})
    measured = _in_new_process(speed_beside_stock.compare_prompts, task)
    assert set(measured) == {"place", "embedding", "decode", "click", "box"}
    assert all(len(measured[name].stock.wall_s) == 1 for name in ("embedding", "decode"))
    assert measured["decode"].ours.cpu_s[0] < measured["decode"].stock.cpu_s[0]


def test_the_mean_iou_is_that_of_each_stock_mask_with_its_best_match():
    bits = np.zeros((40, 40), bool)
    bits[5:15, 5:15] = True
    half = bits.copy()
    half[5:10] = False
    ours = [mask for mask in (mask_from_bits(half, 1.0), mask_from_bits(bits, 1.0)) if mask is not None]
    assert mean_iou(ours, [bits]) == pytest.approx(1.0)
    assert mean_iou(ours[:1], [bits]) == pytest.approx(0.5)
    assert mean_iou(ours, []) is None


def test_the_report_shows_medians_ratios_and_what_was_aimed_at():
    fast, slow = Times([1.0, 2.0, 30.0], [1.0, 2.0, 3.0]), Times([500.0], [800.0])
    report = SpeedReport(machine(), 1024, ["Note."])
    report.compared.append(ComparedRow("automatic", 2, slow, fast, 200.0, "900 droplets"))
    found = FindRow(900, 2, 897, "cpu (openvino)", fast, fast, fast, fast, {"propose": 1.0}, 123.4)
    report.find.append(found)
    report.runtimes.append(ComparedRow("network", 1, slow, fast, None))
    report.big = BigRow(2, 1024, 10_000, 520, 49_900, fast, slow, {}, 1999.0)
    table = report.as_table()
    assert "| automatic | 2 | 500 s (800 s) | 2.0 s (2.0 s) | 250 | 400 | 200 | 900 droplets |" in table
    assert "| 900 droplets | 2 | 897 | 2.0 s (2.0 s) |" in table
    assert "123 MiB" in table
    assert "| network | 1 | 500 s (800 s) | 2.0 s (2.0 s) | 250 | 400 |" in table
    assert "250, by processor time 400" in table
    written = json.loads(json.dumps(report.as_dict()))
    assert written["compared"][0]["ratio"] == 250
    assert written["big"]["peak_mib"] == 1999.0


def test_an_unknown_part_is_refused_in_a_sentence(capsys):
    assert cli.main(["benchmark", "speed", "--parts", "find", "nothing"]) == 1
    assert (
        "--parts takes find, prompts, generator, big, runtimes, but nothing came" in capsys.readouterr().err
    )
