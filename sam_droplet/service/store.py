"""Images, annotations and droplets of an installation: on disk, shared by all workers, owner by owner."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sam_droplet.errors import NotFound, PayloadTooLarge, Unavailable
from sam_droplet.imaging.images import Image
from sam_droplet.service import database as db
from sam_droplet.service.annotation_edit import AnnotationEdit
from sam_droplet.service.files import FileStore, is_digest
from sam_droplet.service.pictures import PictureStore
from sam_droplet.service.records import (
    Annotation,
    ImageRecord,
    calibration_as_dict,
    calibration_from_dict,
    image_row,
    rim_offset_of,
)

log = logging.getLogger(__name__)

ORPHAN_GRACE_S = 3600.0
USE_NOTED_EVERY_S = 3600.0
MOST_LISTED = 5000  # as many as a batch takes
_IDS_PER_QUERY = 500
_NO_SUCH_IMAGE = "There is no image with this id; it may have been deleted. Open the image again."

_RECORD = sa.select(
    db.image_table,
    db.annotation_table.c.calibration,
    db.annotation_table.c.n_found,
    db.annotation_table.c.n_included,
).join_from(db.image_table, db.annotation_table)


def thumbnail_name(image_id: str) -> str:
    """Return under which name the thumbnail of an image is kept."""
    return f"{image_id}.jpg"


class Store:
    """Keep what outlives a request; every method is safe in any number of threads and processes."""

    def __init__(self, data_dir: Path, *, quota_bytes: int = 0) -> None:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            (data_dir / "files").mkdir(exist_ok=True)
        except OSError as error:
            raise Unavailable(f"The data folder cannot be made ({error.strerror}); set DATA_DIR.") from error
        self.data_dir = data_dir
        self.quota_bytes = quota_bytes
        self.files = FileStore(data_dir / "files")
        self.pictures = PictureStore(data_dir / "pictures")
        self.database = db.Database(data_dir / "sam_droplet.sqlite3")

    def add_image(self, owner: str, image: Image, data: bytes) -> tuple[ImageRecord, bool]:
        """Keep an image and the file it came from; return its record and whether it is new.

        The same pixels under the same name give the record that is there already, annotations included.
        Raises PayloadTooLarge where the owner would keep more than the quota.
        """
        file_sha256 = self.files.put(data)
        try:
            return self._add_image(owner, image, data, file_sha256)
        except PayloadTooLarge:
            self._delete_file_if_unused(file_sha256)
            raise

    def _add_image(self, owner: str, image: Image, data: bytes, file_sha256: str) -> tuple[ImageRecord, bool]:
        with self.database.writing() as connection:
            found = connection.execute(
                sa.select(db.image_table.c.id, db.image_table.c.file_sha256).where(
                    db.image_table.c.owner == owner,
                    db.image_table.c.digest == image.digest,
                    db.image_table.c.name == image.name,
                    db.image_table.c.page == image.page,
                )
            ).one_or_none()
            if found is None:
                self._check_quota(connection, owner, len(data))
                image_id = _insert_image(connection, owner, image, file_sha256, len(data))
            else:
                image_id, file_sha256 = found.id, found.file_sha256
                _touch(connection, image_id)
                if not self.files.path_of(file_sha256).exists():
                    file_sha256 = self.files.put(data)
                    connection.execute(
                        db.image_table.update()
                        .where(db.image_table.c.id == image_id)
                        .values(file_sha256=file_sha256, n_bytes=len(data))
                    )
            # A deletion of the last other use may have taken the file since it was put; deletions
            # hold the write lock, so this look is final.
            if not self.files.path_of(file_sha256).exists():
                self.files.put(data)
            return own_record(connection, owner, image_id), found is None

    def image(self, owner: str, image_id: str) -> ImageRecord:
        """Return one image's record; NotFound where there is none or it is another owner's."""
        with self.database.reading() as connection:
            return own_record(connection, owner, image_id)

    def images(self, owner: str, *, limit: int = MOST_LISTED) -> list[ImageRecord]:
        """Return an owner's images, the last used first."""
        query = (
            _RECORD.where(db.image_table.c.owner == owner)
            .order_by(db.image_table.c.used_at.desc(), db.image_table.c.id)
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [_record_from_row(row) for row in connection.execute(query).mappings()]

    def file_bytes(self, record: ImageRecord) -> bytes:
        """Return the uploaded file as it came."""
        return self.files.get(record.file_sha256)

    def delete_image(self, owner: str, image_id: str, *, unused_since: float | None = None) -> None:
        """Delete an image with its annotation, and its file once nobody uses it.

        unused_since: delete it only if nobody used it since; NotFound where somebody did.
        """
        with self.database.writing() as connection:
            record = own_record(connection, owner, image_id)
            found = db.image_table.c.id == image_id
            if unused_since is not None:
                found &= db.image_table.c.used_at < unused_since
            if not connection.execute(db.image_table.delete().where(found)).rowcount:
                raise NotFound("Somebody has used this image meanwhile.")
        self.pictures.forget(thumbnail_name(image_id))
        # Only once the row is surely gone: a crash in between leaves a spare file, never a lost one.
        self._delete_file_if_unused(record.file_sha256)

    def annotation(self, owner: str, image_id: str) -> Annotation:
        """Return the annotation at its newest revision."""
        with self.database.reading() as connection:
            record = own_record(connection, owner, image_id)
            return AnnotationEdit(connection, record).annotation()

    def setting(self, owner: str, image_id: str, name: str) -> Any:
        """Return one further setting of an annotation, None where it is not set."""
        table = db.image_setting_table
        query = sa.select(table.c.value).where(table.c.image_id == image_id, table.c.name == name)
        with self.database.reading() as connection:
            own_record(connection, owner, image_id)
            return connection.execute(query).scalar_one_or_none()

    def rim_offset_px(self, owner: str, image_id: str) -> float:
        """Return the rim offset of the last search alone, 0 before there was one."""
        query = sa.select(db.annotation_table.c.parameters).where(db.annotation_table.c.image_id == image_id)
        with self.database.reading() as connection:
            own_record(connection, owner, image_id)
            return rim_offset_of(connection.execute(query).scalar_one_or_none())

    def annotation_revision(self, owner: str, image_id: str) -> int:
        """Return the newest revision alone, which is much cheaper than the annotation."""
        query = (
            sa.select(db.annotation_table.c.revision)
            .join_from(db.annotation_table, db.image_table)
            .where(db.image_table.c.id == image_id, db.image_table.c.owner == owner)
        )
        with self.database.reading() as connection:
            revision = connection.execute(query).scalar_one_or_none()
        if revision is None:
            raise NotFound(_NO_SUCH_IMAGE)
        return int(revision)

    def annotation_revisions(self, owner: str, image_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest revision of each of these images that is there and the owner's."""
        revisions: dict[str, int] = {}
        with self.database.reading() as connection:
            for start in range(0, len(image_ids), _IDS_PER_QUERY):
                query = (
                    sa.select(db.image_table.c.id, db.annotation_table.c.revision)
                    .join_from(db.annotation_table, db.image_table)
                    .where(db.image_table.c.owner == owner)
                    .where(db.image_table.c.id.in_(image_ids[start : start + _IDS_PER_QUERY]))
                )
                revisions.update((row.id, int(row.revision)) for row in connection.execute(query))
        return revisions

    @contextmanager
    def editing(self, owner: str, image_id: str) -> Iterator[AnnotationEdit]:
        """Give the annotation for editing; one editor at a time, saved at the end of the block.

        An exception inside the block leaves everything as it was.
        """
        with self.database.writing() as connection, self.editing_within(connection, owner, image_id) as edit:
            yield edit

    @contextmanager
    def editing_within(
        self, connection: sa.Connection, owner: str, image_id: str
    ) -> Iterator[AnnotationEdit]:
        """Give the annotation for editing inside a write transaction that does more than that."""
        edit = AnnotationEdit(connection, own_record(connection, owner, image_id))
        yield edit
        edit.save()
        _touch(connection, image_id)

    def note_use(self, owner: str, image_id: str) -> None:
        """Keep an image that somebody looks at from expiring; written once an hour at most.

        Looking goes on where nothing can be written.
        """
        query = sa.select(db.image_table.c.used_at).where(
            db.image_table.c.id == image_id, db.image_table.c.owner == owner
        )
        try:
            with self.database.reading() as connection:
                used_at = connection.execute(query).scalar_one_or_none()
            if used_at is not None and time.time() - used_at > USE_NOTED_EVERY_S:
                with self.database.writing() as connection:
                    _touch(connection, image_id)
        except Unavailable as error:
            log.warning("That an image is in use could not be noted: %s", error.message)

    def usage(self, owner: str | None = None) -> tuple[int, int]:
        """Return how many images an owner keeps and their bytes; of everybody for None."""
        with self.database.reading() as connection:
            return _usage(connection, owner)

    def hand_over(self, from_owner: str, to_owner: str) -> int:
        """Give all images of one owner to another who has none yet; return how many."""
        with self.database.writing() as connection:
            return connection.execute(
                db.image_table.update().where(db.image_table.c.owner == from_owner).values(owner=to_owner)
            ).rowcount

    def expire(self, *, unused_for_s: float) -> int:
        """Delete the images that nobody touched for so long; return how many."""
        before = time.time() - unused_for_s
        stale = sa.select(db.image_table.c.owner, db.image_table.c.id).where(
            db.image_table.c.used_at < before
        )
        with self.database.reading() as connection:
            rows = connection.execute(stale).all()
        deleted = 0
        for owner, image_id in rows:
            try:
                self.delete_image(owner, image_id, unused_since=before)
            except NotFound:
                continue  # another worker was faster, or somebody uses it now
            deleted += 1
        return deleted

    def sweep_files(self) -> int:
        """Delete files that no image uses, left behind by a crash; return how many."""
        before = time.time() - ORPHAN_GRACE_S
        n_deleted = 0
        for path in sorted(self.files.folder.glob("??/*")):
            try:
                old = path.stat().st_mtime < before
                if old and path.name.startswith(".tmp-"):
                    path.unlink(missing_ok=True)
                    n_deleted += 1
            except OSError:
                continue  # gone, or kept by somebody else
            if old and is_digest(path.name):  # what is not was never put here by us, and stays
                n_deleted += self._delete_file_if_unused(path.name)
        return n_deleted

    def check(self) -> None:
        """Raise Unavailable where images and edits could not be kept now; writes a little to know."""
        self.files.check_writable()
        self.database.check_writable()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _check_quota(self, connection: sa.Connection, owner: str, n_bytes: int) -> None:
        kept = _usage(connection, owner)[1]
        if self.quota_bytes and kept + n_bytes > self.quota_bytes:
            raise PayloadTooLarge(
                f"Your images would take {(kept + n_bytes) / 2**20:.1f} MiB and the limit is "
                f"{self.quota_bytes / 2**20:g} MiB; delete images that you no longer need."
            )

    def _delete_file_if_unused(self, file_sha256: str) -> bool:
        with self.database.writing() as connection:
            query = sa.select(sa.func.count()).where(db.image_table.c.file_sha256 == file_sha256)
            if connection.execute(query).scalar_one():
                return False
            return self.files.delete(file_sha256)


def _usage(connection: sa.Connection, owner: str | None) -> tuple[int, int]:
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(db.image_table.c.n_bytes), 0))
    if owner is not None:
        query = query.where(db.image_table.c.owner == owner)
    count, n_bytes = connection.execute(query.select_from(db.image_table)).one()
    return int(count), int(n_bytes)


def _insert_image(connection: sa.Connection, owner: str, image: Image, file_sha256: str, n_bytes: int) -> str:
    image_id = uuid.uuid4().hex
    now = time.time()
    connection.execute(
        db.image_table.insert().values(
            id=image_id,
            owner=owner,
            file_sha256=file_sha256,
            n_bytes=n_bytes,
            created_at=now,
            used_at=now,
            **image_row(image),
        )
    )
    connection.execute(
        db.annotation_table.insert().values(
            image_id=image_id,
            revision=0,
            next_droplet_id=1,
            filters={},
            calibration=calibration_as_dict(image.calibration),
            model=None,
            parameters={},
            timings_s={},
            message=None,
            n_found=0,
            n_included=0,
        )
    )
    return image_id


def _touch(connection: sa.Connection, image_id: str) -> None:
    connection.execute(
        db.image_table.update().where(db.image_table.c.id == image_id).values(used_at=time.time())
    )


def own_record(connection: sa.Connection, owner: str, image_id: str) -> ImageRecord:
    """Return an image that is the owner's, as a transaction sees it; NotFound where there is none."""
    query = _RECORD.where(db.image_table.c.id == image_id, db.image_table.c.owner == owner)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(_NO_SUCH_IMAGE)
    return _record_from_row(row)


def _record_from_row(row: sa.RowMapping) -> ImageRecord:
    values: dict[str, Any] = {name: row[name] for name in row if name not in ("n_bytes", "used_at")}
    values["channel_names"] = tuple(row["channel_names"])
    values["notes"] = tuple(row["notes"])
    values["calibration"] = calibration_from_dict(row["calibration"])
    return ImageRecord(**values)
