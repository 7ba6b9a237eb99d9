"""Pictures that are kept because making them costs more."""

from __future__ import annotations

from sam_droplet.service.pictures import PictureStore


def test_a_picture_is_made_once_and_again_after_it_was_forgotten(tmp_path):
    made = []

    def make() -> bytes:
        made.append(1)
        return b"picture"

    store = PictureStore(tmp_path / "pictures")
    assert [store.get_or_make("a.jpg", make) for _ in range(3)] == [b"picture"] * 3
    assert PictureStore(tmp_path / "pictures").get_or_make("a.jpg", make) == b"picture"
    assert len(made) == 1
    store.forget("a.jpg")
    store.forget("a.jpg")
    store.get_or_make("a.jpg", make)
    assert len(made) == 2


def test_a_picture_that_cannot_be_kept_is_shown_all_the_same(tmp_path):
    (tmp_path / "pictures").write_bytes(b"a file where the folder should be")
    assert PictureStore(tmp_path / "pictures").get_or_make("a.jpg", lambda: b"picture") == b"picture"


def test_a_picture_that_cannot_take_its_place_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "pictures" / "a.jpg").mkdir(parents=True)
    assert PictureStore(tmp_path / "pictures").get_or_make("a.jpg", lambda: b"picture") == b"picture"
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["a.jpg"]
