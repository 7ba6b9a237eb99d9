"""The store keeps what it was given: through a restart, in many processes at once, owner by owner."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from discs import ThresholdSegmenter, disc_png
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.errors import ConfigError, InputError, NotFound, PayloadTooLarge, Unavailable
from sam_droplet.imaging.images import DEFAULT_LIMITS, Calibration, Image, load_image
from sam_droplet.imaging.masks import Mask, mask_from_bits, mask_from_polygon
from sam_droplet.measurement.droplets import Droplet, Filters, measure
from sam_droplet.service.database import image_table
from sam_droplet.service.records import droplet_from_row, droplet_row
from sam_droplet.service.store import Store
from sam_droplet.service.workbench import Workbench


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path / "data")
    yield store
    store.close()


def opened(store: Store, name: str = "discs.png", owner: str = "local") -> tuple[Image, str]:
    image = load_image(disc_png(), name)
    record, _ = store.add_image(owner, image, disc_png())
    return image, record.id


def some_droplets(image: Image) -> list[Droplet]:
    from sam_droplet.pipeline import FindOptions

    return ThresholdSegmenter().find(image, FindOptions()).droplets


def test_an_image_and_its_annotation_survive_a_restart(tmp_path):
    store = Store(tmp_path)
    image, image_id = opened(store)
    droplets = some_droplets(image)
    with store.editing("local", image_id) as edit:
        edit.add(droplets)
        edit.set_excluded([2], True)
        edit.set_filters(Filters(ranges={"area_px": (400.0, None)}, exclude_edge=True))
        edit.set_calibration(Calibration(0.65, "typed"))
    before = store.annotation("local", image_id)
    store.close()

    again = Store(tmp_path)
    after = again.annotation("local", image_id)
    assert again.file_bytes(after.image) == disc_png()
    assert (after.revision, after.filters, after.calibration) == (
        1,
        before.filters,
        Calibration(0.65, "typed"),
    )
    assert [d.exclusion_reason for d in after.droplets] == [d.exclusion_reason for d in before.droplets]
    assert {d.exclusion_reason for d in after.droplets} == {None, "user", "area_px_below", "touches_edge"}
    for original, stored in zip(droplets, after.droplets, strict=True):
        assert stored.measures == original.measures
        assert np.array_equal(stored.mask.bits, original.mask.bits)
    again.close()


def test_the_same_pixels_and_name_are_the_same_image(store):
    image, image_id = opened(store)
    record, is_new = store.add_image("local", image, disc_png())
    assert (record.id, is_new) == (image_id, False)
    renamed, is_new = store.add_image("local", replace(image, name="other.png"), disc_png())
    assert is_new
    assert renamed.id != image_id
    assert len(list((store.data_dir / "files").glob("??/*"))) == 1


def test_nothing_of_one_owner_is_visible_to_another(store):
    _, image_id = opened(store, owner="key_a")
    assert store.images("key_b") == []
    for look in (store.image, store.annotation, store.delete_image, store.annotation_revision):
        with pytest.raises(NotFound):
            look("key_b", image_id)
    with pytest.raises(NotFound), store.editing("key_b", image_id):
        pytest.fail("the editor must not open")
    assert store.image("key_a", image_id).id == image_id


def test_deleting_the_last_use_of_a_file_deletes_the_file(store):
    _, first = opened(store, owner="key_a")
    _, second = opened(store, owner="key_b")
    blob = store.files.path_of(store.image("key_a", first).file_sha256)
    store.delete_image("key_a", first)
    assert blob.exists()
    store.delete_image("key_b", second)
    assert not blob.exists()
    with pytest.raises(NotFound):
        store.image("key_b", second)


def test_droplet_ids_are_never_used_again(store):
    image, image_id = opened(store)
    droplets = some_droplets(image)
    with store.editing("local", image_id) as edit:
        assert edit.add(droplets[:2]) == [1, 2]
        edit.set_deleted([1, 2], True)
    with store.editing("local", image_id) as edit:
        assert edit.add(droplets[:1]) == [3]
        edit.set_deleted([1], False)
    assert [d.id for d in store.annotation("local", image_id).droplets] == [1, 3]


def test_an_edit_that_changes_nothing_keeps_the_revision(store):
    image, image_id = opened(store)
    with store.editing("local", image_id) as edit:
        edit.add(some_droplets(image))
    for _ in range(2):
        with store.editing("local", image_id) as edit:
            edit.set_deleted([1], True)
            edit.set_excluded([2], True)
            edit.set_calibration(Calibration(1.0, "typed"))
    assert store.annotation_revision("local", image_id) == 2


def test_an_unknown_droplet_leaves_everything_as_it_was(store):
    image, image_id = opened(store)
    with store.editing("local", image_id) as edit:
        edit.add(some_droplets(image))
    with pytest.raises(NotFound, match="no droplet 99"):
        _delete(store, image_id, [1], [99])
    annotation = store.annotation("local", image_id)
    assert annotation.revision == 1
    assert annotation.droplets[0].id == 1


def _delete(store, image_id, *groups):
    with store.editing("local", image_id) as edit:
        for ids in groups:
            edit.set_deleted(ids, True)


def test_a_filter_on_an_unknown_column_is_refused(store):
    image, image_id = opened(store)
    with store.editing("local", image_id) as edit:
        edit.add(some_droplets(image))
    with pytest.raises(InputError, match="colour"), store.editing("local", image_id) as edit:
        edit.set_filters(Filters(ranges={"colour": (1.0, 2.0)}))
    assert store.annotation("local", image_id).filters == Filters()


@st.composite
def masks(draw) -> Mask:
    width, height = draw(st.integers(1, 23)), draw(st.integers(1, 23))
    bits = np.array(draw(st.lists(st.booleans(), min_size=width * height, max_size=width * height)))
    bits = bits.reshape(height, width)
    bits[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    mask = mask_from_bits(bits, draw(st.floats(0, 1)), offset_xy=(draw(st.integers(0, 9)), 3))
    assert mask is not None
    return mask


@given(masks(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_droplet_comes_back_bit_for_bit(mask, with_contour):
    pixels = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40, 1)
    image = Image(pixels, "0" * 64, "ramp", "tiff", 12, None)
    if with_contour:
        contour = np.array([[1.25, 1.5], [30.75, 2.0], [17.0, 33.3]])
        polygon = mask_from_polygon(contour, 0.5, (40, 40))
        assert polygon is not None
        mask = polygon
    (droplet,) = measure(image, [mask], source="manual", model="m")
    row = droplet_row(droplet) | {"droplet_id": 7, "excluded_by_user": 1, "included_by_user": 0}
    back = droplet_from_row(row)
    assert (back.id, back.source, back.score, back.excluded_by_user) == (7, "manual", droplet.score, True)
    assert back.measures == droplet.measures
    assert back.mask.box_xyxy == mask.box_xyxy
    assert np.array_equal(back.mask.bits, mask.bits)
    if with_contour:
        assert np.array_equal(back.mask.contour_xy, mask.contour_xy)
    else:
        assert back.mask.contour_xy is None


def _edit_many_times(data_dir: Path, image_id: str, worker: int, n_edits: int) -> None:
    store = Store(data_dir)
    image, _ = opened(store)
    droplet = some_droplets(image)[0]
    for _ in range(n_edits):
        with store.editing("local", image_id) as edit:
            (new_id,) = edit.add([droplet])
            edit.set_excluded([new_id], worker % 2 == 0)
    store.close()


def _open_the_same(data_dir: Path, start: float) -> None:
    while time.time() < start:
        time.sleep(0.001)
    store = Store(data_dir)
    opened(store)
    store.close()


def _run_all(processes: list[multiprocessing.Process]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_processes_that_edit_the_same_annotation_lose_no_update(store):
    _, image_id = opened(store)
    spawn = multiprocessing.get_context("spawn")
    _run_all(
        [spawn.Process(target=_edit_many_times, args=(store.data_dir, image_id, w, 15)) for w in range(4)]
    )
    annotation = store.annotation("local", image_id)
    assert annotation.revision == 60
    assert [d.id for d in annotation.droplets] == list(range(1, 61))
    assert sum(d.excluded_by_user for d in annotation.droplets) == 30
    assert (annotation.image.n_found, annotation.image.n_included) == (60, 30)


def test_processes_that_start_together_make_one_database_and_one_image(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    start = time.time() + 3
    _run_all([spawn.Process(target=_open_the_same, args=(tmp_path / "new", start)) for _ in range(4)])
    store = Store(tmp_path / "new")
    assert len(store.images("local")) == 1
    store.close()


def test_a_process_killed_in_the_middle_of_an_edit_leaves_the_old_revision(store):
    _, image_id = opened(store)
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_die_while_editing, args=(store.data_dir, image_id))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    with store.editing("local", image_id) as edit:  # the dead process's lock is gone as well
        edit.set_calibration(Calibration(2.0, "typed"))
    annotation = store.annotation("local", image_id)
    assert (annotation.revision, annotation.droplets) == (1, [])


def _die_while_editing(data_dir: Path, image_id: str) -> None:
    store = Store(data_dir)
    image, _ = opened(store)
    with store.editing("local", image_id) as edit:
        edit.add(some_droplets(image))
        edit.save()
        os.kill(os.getpid(), 9)


def test_images_that_nobody_uses_expire(store):
    _, image_id = opened(store)
    assert store.expire(unused_for_s=60) == 0
    assert store.expire(unused_for_s=-1) == 1
    with pytest.raises(NotFound):
        store.image("local", image_id)


def test_looking_at_an_image_keeps_it_from_expiring(store):
    _, looked_at = opened(store)
    _, forgotten = opened(store, name="forgotten.png")
    bench = Workbench(store, ThresholdSegmenter(), DEFAULT_LIMITS)
    for look in (bench.annotation, bench.image):
        with store.database.writing() as connection:
            connection.execute(image_table.update().values(used_at=time.time() - 86_400))
        look("local", looked_at)
        assert [record.id for record in store.images("local")] == [looked_at, forgotten]
    assert store.expire(unused_for_s=43_200) == 1
    assert [record.id for record in store.images("local")] == [looked_at]


def test_an_image_that_is_used_while_others_expire_is_kept(store):
    _, image_id = opened(store)
    with pytest.raises(NotFound):
        store.delete_image("local", image_id, unused_since=time.time() - 60)
    assert store.image("local", image_id).id == image_id


def test_files_that_cannot_be_deleted_now_are_left_for_later(store):
    _, image_id = opened(store)
    blob = store.files.path_of(store.image("local", image_id).file_sha256)
    data = blob.read_bytes()
    blob.unlink()
    (blob / "x").mkdir(parents=True)  # as little to be unlinked as what another program holds on Windows
    store.delete_image("local", image_id)
    assert store.images("local") == []
    os.utime(blob, (1, 1))
    assert store.sweep_files() == 0
    (blob / "x").rmdir()
    blob.rmdir()
    blob.write_bytes(data)
    os.utime(blob, (1, 1))
    assert store.sweep_files() == 1


def test_files_left_by_a_crash_are_swept_and_used_ones_are_kept(store):
    _, image_id = opened(store)
    orphan = store.files.put(b"left behind")
    half_written = store.files.path_of(orphan).with_name(".tmp-123")
    half_written.write_bytes(b"half")
    for path in store.files.folder.glob("??/*"):
        os.utime(path, (1, 1))
    assert store.sweep_files() == 2
    assert store.file_bytes(store.image("local", image_id)) == disc_png()


def test_a_damaged_file_is_reported_and_not_used(store):
    _, image_id = opened(store)
    record = store.image("local", image_id)
    store.files.path_of(record.file_sha256).write_bytes(b"\0" * 100)
    with pytest.raises(NotFound, match="damaged"):
        store.file_bytes(record)


def test_an_upload_heals_a_lost_file(store):
    image, image_id = opened(store)
    record = store.image("local", image_id)
    store.files.delete(record.file_sha256)
    store.add_image("local", image, disc_png())
    assert store.file_bytes(record) == disc_png()


def test_an_upload_heals_a_damaged_file(store):
    image, image_id = opened(store)
    record = store.image("local", image_id)
    path = store.files.path_of(record.file_sha256)
    path.write_bytes(b"\0" * path.stat().st_size)
    store.add_image("local", image, disc_png())
    assert store.file_bytes(record) == disc_png()


def test_a_store_that_can_keep_nothing_says_so(store):
    store.check()
    store.files.min_free_bytes = 1 << 60
    with pytest.raises(Unavailable, match="disk is full"):
        store.check()


def test_a_writer_does_not_make_the_store_look_broken(store):
    with store.database.writing():
        store.check()


def test_a_full_disk_is_told_before_anything_is_written(store):
    store.files.min_free_bytes = 1 << 60
    image = load_image(disc_png(), "discs.png")
    with pytest.raises(Unavailable, match="disk is full"):
        store.add_image("local", image, disc_png())
    assert store.images("local") == []


def test_a_damaged_database_is_told_in_a_sentence(tmp_path):
    (tmp_path / "sam_droplet.sqlite3").write_bytes(b"this is no database, " * 500)
    with pytest.raises(Unavailable, match="damaged"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("disk I/O error", "may be full"),  # all that SQLite says of a disk without one free block
        ("database or disk is full", "disk is full"),
        ("attempt to write a readonly database", "cannot be written"),
    ],
)
def test_a_failure_of_the_disk_says_what_to_do(store, text, words):
    with pytest.raises(Unavailable, match=words), store.database.writing():
        raise sqlite3.OperationalError(text)


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "sam_droplet.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer"):
        Store(tmp_path)


def test_a_database_of_schema_1_is_brought_up_to_date_and_keeps_its_droplets(tmp_path):
    store = Store(tmp_path)
    image, image_id = opened(store)
    with store.editing("local", image_id) as edit:
        edit.add(some_droplets(image)[:2])
        edit.set_excluded([1], True)
    store.close()
    with sqlite3.connect(tmp_path / "sam_droplet.sqlite3") as connection:
        connection.execute("ALTER TABLE droplets DROP COLUMN included_by_user")
        connection.execute("PRAGMA user_version = 1")
    store = Store(tmp_path)
    with store.editing("local", image_id) as edit:
        edit.set_included([2], True)
    droplets = store.annotation("local", image_id).droplets
    assert [(d.excluded_by_user, d.included_by_user) for d in droplets] == [(True, False), (False, True)]
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_data_folder_may_have_any_name(tmp_path):
    store = Store(tmp_path / "what? 50%41 ü #x")
    _, image_id = opened(store)
    store.check()
    assert [record.id for record in store.images("local")] == [image_id]
    assert [path.name for path in tmp_path.iterdir()] == ["what? 50%41 ü #x"]
    store.close()


def test_usage_counts_images_and_bytes_of_an_owner(store):
    opened(store, owner="key_a")
    opened(store, name="second.png", owner="key_a")
    opened(store, owner="key_b")
    assert store.usage("key_a") == (2, 2 * len(disc_png()))
    assert store.usage() == (3, 3 * len(disc_png()))


def test_an_owner_over_the_quota_is_told_and_nothing_is_left_behind(tmp_path):
    store = Store(tmp_path, quota_bytes=len(disc_png()) + 10)
    opened(store, owner="key_a")
    opened(store, owner="key_b")  # each owner has the whole quota
    opened(store, owner="key_a")  # the same image again takes no more
    other = disc_png([(50.0, 50.0, 20.0)])
    with pytest.raises(PayloadTooLarge, match="delete images"):
        store.add_image("key_a", load_image(other, "other.png"), other)
    assert store.usage("key_a")[0] == 1
    assert len(list((tmp_path / "files").glob("??/*"))) == 1
    store.close()
