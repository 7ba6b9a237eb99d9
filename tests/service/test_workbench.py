"""What a user does, without HTTP: open, find, click, correct, export."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from discs import DISCS, ThresholdSegmenter, disc_pixels, disc_png

from sam_droplet.errors import InputError, NotFound
from sam_droplet.imaging.images import Calibration, Limits, encode_png
from sam_droplet.measurement.droplets import Filters
from sam_droplet.measurement.export import EXPORTERS, ExportRequest, rerun
from sam_droplet.pipeline import FindOptions, Prompt
from sam_droplet.service.analyst import Analyst
from sam_droplet.service.batch import ImageRunner, subjects
from sam_droplet.service.job_engine import Work
from sam_droplet.service.jobs import JobQueue
from sam_droplet.service.preprocessing import Preprocessing
from sam_droplet.service.store import Store
from sam_droplet.service.workbench import Patch, Workbench

LIMITS = Limits(1 << 20, 1_000_000, 10)
FIRST = Prompt(points_xy=((30.0, 40.0),), point_labels=(1,))
NOWHERE = Prompt(points_xy=((1.0, 1.0),), point_labels=(1,))


@pytest.fixture
def bench(tmp_path: Path):
    store = Store(tmp_path)
    yield Workbench(store, ThresholdSegmenter(), LIMITS)
    store.close()


@pytest.fixture
def image_id(bench) -> str:
    return bench.open_image("local", disc_png(), "discs.png").id


def ids(bench, image_id) -> list[int]:
    return [d.id for d in bench.annotation("local", image_id).droplets]


def test_find_keeps_every_droplet_with_its_true_size(bench, image_id):
    found = bench.find("local", image_id, FindOptions())
    assert found.added == ids(bench, image_id) == [1, 2, 3, 4, 5]
    by_size = sorted(d.measures.diameter_px for d in found.annotation.droplets if not d.measures.touches_edge)
    assert by_size == pytest.approx(sorted(2 * r for x, _, r in DISCS if x > 20), rel=0.02)
    assert found.annotation.model == {"name": "threshold", "sha256": "0" * 64, "device": "cpu"}
    assert found.annotation.image.n_found == 5


def test_finding_again_replaces_only_automatic_droplets(bench, image_id):
    bench.find("local", image_id, FindOptions())
    bench.edit("local", image_id, Patch(delete=[1], exclude=[2]))
    committed = bench.predict("local", image_id, FIRST, source="point", commit=True).committed
    assert committed is not None
    again = bench.find("local", image_id, FindOptions())
    assert (again.found, again.removed, again.added) == ([3, 4, 5], [], [])
    # Neither the clicked droplet nor the excluded one is doubled.
    assert [(d.source, d.excluded_by_user) for d in again.annotation.droplets] == [
        ("auto", True),
        ("auto", False),
        ("auto", False),
        ("auto", False),
        ("point", False),
    ]


def test_what_was_included_by_hand_counts_and_survives_the_next_find(bench, image_id):
    bench.find("local", image_id, FindOptions())
    small = Filters({"diameter_px": (22, None)})
    bench.edit("local", image_id, Patch(filters=small))
    kept = bench.edit("local", image_id, Patch(include_anyway=[3]))
    assert (kept.droplets[2].included, kept.droplets[2].included_although) == (True, "diameter_px_below")
    assert kept.image.n_included == 5
    again = bench.find("local", image_id, FindOptions())
    assert (again.found, again.added, again.removed) == ([1, 2, 4, 5], [], [])
    assert again.annotation.image.n_included == 5
    left = bench.edit("local", image_id, Patch(follow_filters=[3]))
    assert (left.droplets[2].exclusion_reason, left.image.n_included) == ("diameter_px_below", 4)
    # Deleted, it does not come back from the next search as one that counts against the filter.
    bench.edit("local", image_id, Patch(include_anyway=[3], delete=[3]))
    assert bench.find("local", image_id, FindOptions()).annotation.image.n_included == 4


def test_undoing_find_brings_the_earlier_droplets_back(bench, image_id):
    bench.find("local", image_id, FindOptions())
    again = bench.find("local", image_id, FindOptions(diameter_min_px=25))
    assert (again.found, again.added, again.removed) == ([2, 4], [], [1, 3, 5])
    bench.edit("local", image_id, Patch(delete=again.added, restore=again.removed))
    assert ids(bench, image_id) == [1, 2, 3, 4, 5]


def test_after_an_undone_search_nothing_is_told_of_it(bench, image_id):
    first = bench.find("local", image_id, FindOptions(sensitivity=0.6))
    second = bench.find("local", image_id, FindOptions(diameter_min_px=25))
    numbers = [found.annotation.settings["search"] for found in (first, second)]
    assert numbers == [1, 2]
    back = Patch(delete=second.added, restore=second.removed, search=1)
    undone = bench.edit("local", image_id, back)
    for name in ("model", "parameters", "timings_s", "message"):
        assert getattr(undone, name) == getattr(first.annotation, name)
    assert undone.parameters != second.annotation.parameters
    assert bench.edit("local", image_id, back).revision == undone.revision  # repeated: nothing changed
    none = bench.edit("local", image_id, Patch(delete=first.added, search=0))
    assert (none.model, none.parameters, none.timings_s, none.message) == (None, {}, {}, None)
    redone = bench.edit("local", image_id, Patch(restore=second.found, search=2))
    assert redone.parameters == second.annotation.parameters
    with pytest.raises(InputError, match="no search 3"):
        bench.edit("local", image_id, Patch(search=3))
    assert bench.find("local", image_id, FindOptions()).annotation.settings["search"] == 3


def test_a_fresh_find_numbers_from_one_again_unless_something_differs(bench, image_id):
    bench.find("local", image_id, FindOptions())
    bench.find("local", image_id, FindOptions(diameter_min_px=25))
    assert ids(bench, image_id) == [2, 4]
    bench.find("local", image_id, FindOptions())
    assert ids(bench, image_id) == [1, 2, 3, 4, 5]
    bench.edit("local", image_id, Patch(delete=[1, 3]))
    assert bench.find("local", image_id, FindOptions()).added == [1, 3]
    # An excluded droplet stays so; deleted as well, it comes back as another one that is not excluded.
    bench.edit("local", image_id, Patch(exclude=[5], delete=[5]))
    assert bench.find("local", image_id, FindOptions()).found == [1, 2, 3, 4, 6]


def test_finding_in_a_region_leaves_the_rest_alone(bench, image_id):
    bench.find("local", image_id, FindOptions())
    region = (0.0, 0.0, 60.0, 70.0)
    again = bench.find("local", image_id, FindOptions(roi_xyxy=region))
    assert (again.found, again.removed, again.added) == ([1], [], [])
    assert ids(bench, image_id) == [1, 2, 3, 4, 5]


def test_an_empty_result_says_why(bench):
    dark = bench.open_image("local", disc_png([]), "dark.png")
    found = bench.find("local", dark.id, FindOptions())
    assert found.annotation.message is not None
    assert found.annotation.message.startswith("0 droplets:")


def test_a_click_on_background_commits_nothing(bench, image_id):
    predicted = bench.predict("local", image_id, NOWHERE, source="point", commit=True)
    assert (predicted.candidates, predicted.committed, predicted.revision) == ([], None, 0)


def test_a_click_without_commit_changes_nothing(bench, image_id):
    predicted = bench.predict("local", image_id, FIRST, source="point")
    assert len(predicted.candidates) == 1
    assert ids(bench, image_id) == []


def test_a_candidate_that_is_not_there_is_refused(bench, image_id):
    with pytest.raises(InputError, match="candidate"):
        bench.predict("local", image_id, FIRST, source="point", commit=True, candidate=3)


def test_a_drawn_outline_becomes_a_droplet(bench, image_id):
    square = np.array([[10.0, 10.0], [20.0, 10.0], [20.0, 20.0], [10.0, 20.0]])
    droplet, revision = bench.add_contour("local", image_id, square)
    assert (droplet.id, droplet.source, droplet.mask.area_px, revision) == (1, "manual", 100, 1)
    with pytest.raises(InputError, match="pixel centre"):
        bench.add_contour("local", image_id, square + 1000)


def test_a_scale_that_is_set_during_a_search_of_a_batch_stays(bench, image_id):
    bench.edit("local", image_id, Patch(calibration=(Calibration(0.5, "typed"),)))
    queue = JobQueue(bench.store.database)
    subject = subjects([bench.store.image("local", image_id)])
    job = queue.submit("local", "batch", {"chamber_height_um": 20.0}, subject)
    lease = queue.claim()
    runner = ImageRunner(bench, lambda settings, record, calibration: FindOptions())
    commit = runner(Work(queue, lease, Event()))
    bench.edit("local", image_id, Patch(calibration=(Calibration(0.65, "line"),)))
    queue.complete(lease, commit)
    assert queue.job("local", job.id).state == "done"
    assert bench.annotation("local", image_id).calibration == Calibration(0.65, "line", 20.0)


def test_every_edit_is_undone_by_its_inverse(bench, image_id):
    before = bench.find("local", image_id, FindOptions()).annotation
    bench.edit("local", image_id, Patch(delete=[1], exclude=[2]))
    bench.edit("local", image_id, Patch(restore=[1], include=[2]))
    after = bench.annotation("local", image_id)
    assert [(d.id, d.included) for d in after.droplets] == [(d.id, d.included) for d in before.droplets]
    assert after.revision == before.revision + 2


def test_filters_and_scale_are_kept(bench, image_id):
    bench.find("local", image_id, FindOptions())
    patch = Patch(
        filters=Filters(ranges={"diameter_px": (25.0, None)}, exclude_edge=True),
        calibration=(Calibration(0.5, "line"),),
    )
    annotation = bench.edit("local", image_id, patch)
    assert (annotation.image.n_included, annotation.image.n_found) == (2, 5)
    assert bench.annotation("local", image_id).calibration == Calibration(0.5, "line")
    assert bench.edit("local", image_id, Patch(calibration=(None,))).calibration is None


def test_the_csv_holds_what_is_on_screen(bench, image_id):
    bench.find("local", image_id, FindOptions())
    bench.edit("local", image_id, Patch(delete=[1], exclude=[2]))
    exported = Analyst(bench).export("local", image_id, "csv")
    text = exported.data.decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert [int(row["id"]) for row in rows] == [2, 3, 4, 5]
    assert [row["exclusion_reason"] for row in rows] == ["user", "", "", ""]


def test_an_unknown_export_is_told_with_those_there_are(bench, image_id):
    with pytest.raises(NotFound, match="csv"):
        Analyst(bench).export("local", image_id, "floppy")


def test_preprocessing_changes_what_is_found_and_not_what_is_measured(bench):
    _, image = bench.image("local", bench.open_image("local", disc_png(), "discs.png").id)
    blurred = Preprocessing(gaussian_blur=True, gaussian_sigma=3.0, gaussian_kernel_size=9)
    result = bench.segment_once(image, FindOptions(), blurred.apply)
    inner = [d for d in result.droplets if not d.measures.touches_edge]
    assert max(d.measures.max_intensity for d in inner) == 180
    plain = bench.segment_once(image, FindOptions())
    assert [d.mask.area_px for d in plain.droplets] != [d.mask.area_px for d in result.droplets]


def test_rim_offset_is_applied_once_to_what_is_found_and_clicked(bench, image_id):
    plain = bench.find("local", image_id, FindOptions()).annotation
    sizes = [d.measures.diameter_px for d in plain.droplets if not d.measures.touches_edge]
    moved = bench.find("local", image_id, FindOptions(rim_offset_px=2.0)).annotation
    assert moved.rim_offset_px == 2.0
    for _ in range(2):  # again changes nothing
        grown = [d.measures.diameter_px for d in moved.droplets if not d.measures.touches_edge]
        assert grown == pytest.approx([size + 4 for size in sizes], abs=0.6)
        moved = bench.find("local", image_id, FindOptions(rim_offset_px=2.0)).annotation
    clicked = bench.predict("local", image_id, FIRST, source="point").candidates[0]
    found = min(moved.droplets, key=lambda d: abs(d.measures.center_x_px - clicked.measures.center_x_px))
    assert clicked.measures.area_px == found.measures.area_px


def test_another_rim_offset_moves_the_droplets_that_survive(bench, image_id):
    committed = bench.predict("local", image_id, FIRST, source="point", commit=True).committed
    _, by_hand_revision = bench.add_contour("local", image_id, np.array([(70.0, 5), (80, 5), (75, 15)]))
    assert by_hand_revision
    (drawn,) = [d for d in bench.annotation("local", image_id).droplets if d.source == "manual"]
    found = bench.find("local", image_id, FindOptions(rim_offset_px=-2.0))
    by_source = {d.source: d for d in found.annotation.droplets}
    assert by_source["point"].measures.diameter_px == pytest.approx(
        committed.measures.diameter_px - 4, abs=0.6
    )
    assert by_source["manual"].measures == drawn.measures
    assert committed.id in found.removed


def test_what_is_found_again_has_the_background_that_it_has_now(bench):
    pixels = disc_pixels([(90, 75, 15)])
    pixels[:, 95:][pixels[:, 95:] == 40] = 60
    image_id = bench.open_image("local", encode_png(pixels), "uneven.png").id

    def background() -> tuple[int, float]:
        (droplet,) = bench.find("local", image_id, FindOptions()).annotation.droplets
        return droplet.id, droplet.measures.background_intensity

    assert background() == (1, 40)
    left = np.array([(60.0, 50), (74, 50), (74, 100), (60, 100)])
    drawn, _ = bench.add_contour("local", image_id, left)
    beside = bench.annotation("local", image_id).droplets[0]
    assert beside.measures.background_intensity == 60
    bench.edit("local", image_id, Patch(delete=[drawn.id]))
    assert background() == (1, 40)


# Seven discs, six of them close around the first, so that its ring is more theirs than the ground's.
_AROUND = [(110 + 43 * np.cos(a), 110 + 43 * np.sin(a), 20) for a in np.arange(6) * np.pi / 3]
PACKED = disc_png([(110, 110, 20), *_AROUND], (220, 220))
MIDDLE = Prompt(points_xy=((110.0, 110.0),), point_labels=(1,))


def test_a_clicked_droplet_has_the_background_between_its_neighbours(bench):
    image_id = bench.open_image("local", PACKED, "packed.png").id
    found = bench.find("local", image_id, FindOptions()).annotation.droplets
    (middle,) = [d for d in found if d.measures.center_x_px == d.measures.center_y_px == 110]
    bench.edit("local", image_id, Patch(delete=[middle.id]))
    committed = bench.predict("local", image_id, MIDDLE, source="point", commit=True).committed
    assert committed.measures == middle.measures
    assert committed.measures.background_intensity == 40


def test_droplets_that_are_drawn_around_another_leave_its_background_between_them(bench):
    image_id = bench.open_image("local", PACKED, "packed.png").id
    clicked = bench.predict("local", image_id, MIDDLE, source="point", commit=True).committed
    assert clicked.measures.background_intensity == 180  # nothing says yet that droplets surround it
    found = bench.find("local", image_id, FindOptions())
    assert {d.measures.background_intensity for d in found.annotation.droplets} == {40}
    again = bench.find("local", image_id, FindOptions())
    assert (again.found, again.added, again.removed) == (found.found, [], [])
    # Drawn by hand one after the other, around one that was found alone.
    other_id = bench.open_image("local", PACKED, "again.png").id
    bench.find("local", other_id, FindOptions(roi_xyxy=(90, 90, 130, 130)))
    angles = np.arange(32) * np.pi / 16
    for x, y, r in _AROUND:
        bench.add_contour(
            "local", other_id, np.column_stack([x + r * np.cos(angles), y + r * np.sin(angles)])
        )
    drawn = bench.annotation("local", other_id).droplets
    assert (len(drawn), {d.measures.background_intensity for d in drawn}) == (7, {40})


def test_settings_give_the_same_table_again_whatever_was_added_or_deleted_since(bench):
    image_id = bench.open_image("local", PACKED, "packed.png").id
    bench.predict("local", image_id, MIDDLE, source="point", commit=True)
    found = bench.find("local", image_id, FindOptions())
    bench.edit("local", image_id, Patch(delete=found.added[:2]))
    files = Analyst(bench)
    settings = json.loads(files.export("local", image_id, "settings").data)
    _, image = bench.image("local", image_id)
    again = ExportRequest(image, rerun(image, settings), None, settings["provenance"])
    assert EXPORTERS["csv"](again).data == files.export("local", image_id, "csv").data
