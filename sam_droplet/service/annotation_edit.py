"""One image's annotation inside a database transaction: load, change, save as the next revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from sam_droplet.errors import InputError, NotFound
from sam_droplet.imaging.images import Calibration
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters
from sam_droplet.service import database as db
from sam_droplet.service.records import (
    Annotation,
    ImageRecord,
    calibration_as_dict,
    calibration_from_dict,
    droplet_from_row,
    droplet_row,
    filters_as_dict,
    filters_from_dict,
    rim_offset_of,
)

# What was said of each search of an image, by its number.
_SEARCHES = "searches"
# As many as a browser keeps steps of undo.
_KEPT_SEARCHES = 200


def _identity(row: Mapping[str, Any]) -> str:
    """Return what tells whether two rows of droplets hold the same droplet: its outline and its numbers.

    All but the background, which hangs on the other droplets, too.
    """
    own = {name: value for name, value in row["measures"].items() if name != "background_intensity"}
    return json.dumps([_outline(row), row["box_xyxy"], row["score"], row["model"], own], sort_keys=True)


def _outline(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(row["bits"] + (row["contour"] or b"")).hexdigest()


class AnnotationEdit:
    """Read and change one annotation; belongs to the transaction that made it.

    Every change is a set operation that may be repeated: what is so already changes nothing, and an
    edit that changed nothing keeps the revision.
    """

    def __init__(self, connection: sa.Connection, record: ImageRecord) -> None:
        self._connection = connection
        self._record = record
        row = connection.execute(
            sa.select(db.annotation_table).where(db.annotation_table.c.image_id == record.id)
        ).mappings()
        self._row: dict[str, Any] = dict(row.one())
        settings = connection.execute(
            sa.select(db.image_setting_table.c.name, db.image_setting_table.c.value).where(
                db.image_setting_table.c.image_id == record.id
            )
        )
        self._settings: dict[str, Any] = {row.name: row.value for row in settings}
        self._droplets: list[Droplet] | None = None
        self._changed = False

    @property
    def revision(self) -> int:
        """The revision that was loaded."""
        return int(self._row["revision"])

    @property
    def n_channels(self) -> int:
        """How many channels the image has."""
        return self._record.n_channels

    @property
    def rim_offset_px(self) -> float:
        """The rim offset of the outlines that are there."""
        return rim_offset_of(self._row["parameters"])

    @property
    def filters(self) -> Filters:
        """The filters in force."""
        return filters_from_dict(self._row["filters"])

    @property
    def calibration(self) -> Calibration | None:
        """The scale in force."""
        return calibration_from_dict(self._row["calibration"])

    def droplets(self) -> list[Droplet]:
        """Return the droplets that are not deleted, by id, with the filters applied."""
        if self._droplets is None:
            query = (
                sa.select(db.droplet_table)
                .where(db.droplet_table.c.image_id == self._record.id, sa.not_(db.droplet_table.c.deleted))
                .order_by(db.droplet_table.c.droplet_id)
            )
            rows = self._connection.execute(query).mappings()
            self._droplets = apply_filters([droplet_from_row(dict(row)) for row in rows], self.filters)
        return self._droplets

    def add(self, droplets: Sequence[Droplet]) -> list[int]:
        """Add droplets under new ids, which are returned; an id is never used twice."""
        first = int(self._row["next_droplet_id"])
        ids = list(range(first, first + len(droplets)))
        if not ids:
            return []
        rows = [
            {
                "image_id": self._record.id,
                "droplet_id": droplet_id,
                "excluded_by_user": droplet.excluded_by_user,
                "included_by_user": droplet.included_by_user,
                "deleted": False,
                **droplet_row(droplet),
            }
            for droplet_id, droplet in zip(ids, droplets, strict=True)
        ]
        self._connection.execute(db.droplet_table.insert(), rows)
        self._set(next_droplet_id=first + len(droplets))
        self._droplets = None
        return ids

    def put_automatic(self, droplets: Sequence[Droplet]) -> list[int]:
        """Bring droplets back under the ids that they had, and add those that are new; return all their ids.

        What was found before, deleted or not, is the same where its outline and every number agree.
        """
        rows = [droplet_row(droplet) for droplet in droplets]
        known = self._automatic_ids({_outline(row) for row in rows})
        ids = [known.pop(_identity(row), None) for row in rows]
        self.set_deleted([number for number in ids if number is not None], False)
        fresh = iter(self.add([d for d, number in zip(droplets, ids, strict=True) if number is None]))
        return [next(fresh) if number is None else number for number in ids]

    def _automatic_ids(self, outlines: Set[str]) -> dict[str, int]:
        """Return the id of each droplet that was found with one of these outlines, by its identity."""
        table = db.droplet_table
        # For undo, the droplets of every search stay; JSON is read of those alone whose outline agrees.
        plain = [sa.type_coerce(c, sa.Text) if isinstance(c.type, sa.JSON) else c for c in table.c]
        query = sa.select(*plain).where(
            table.c.image_id == self._record.id,
            table.c.source == "auto",
            sa.not_(table.c.excluded_by_user),
            sa.not_(table.c.included_by_user),
        )
        rows = self._connection.execute(query.order_by(table.c.droplet_id.desc())).mappings()
        known = {}
        for found in rows:
            row = dict(found)
            if _outline(row) in outlines:
                row |= {name: json.loads(row[name]) for name in ("box_xyxy", "measures")}
                known[_identity(row)] = int(row["droplet_id"])
        return known

    def set_deleted(self, ids: Iterable[int], deleted: bool) -> None:
        """Delete droplets, or bring deleted ones back."""
        self._set_flag("deleted", ids, deleted)

    def set_excluded(self, ids: Iterable[int], excluded: bool) -> None:
        """Exclude droplets by the user's will, or take that back."""
        self._set_flag("excluded_by_user", ids, excluded)

    def set_included(self, ids: Iterable[int], included: bool) -> None:
        """Let droplets count whatever the filters say, by the user's will, or take that back."""
        self._set_flag("included_by_user", ids, included)

    def set_backgrounds(self, background_by_id: Mapping[int, float | None]) -> None:
        """Replace background intensities, which others that were drawn around a droplet change."""
        measures = {
            d.id: replace(d.measures, background_intensity=background_by_id[d.id])
            for d in self.droplets()
            if background_by_id.get(d.id, d.measures.background_intensity) != d.measures.background_intensity
        }
        if not measures:
            return
        table = db.droplet_table
        self._connection.execute(
            table.update()
            .where(table.c.image_id == self._record.id, table.c.droplet_id == sa.bindparam("wanted_id"))
            .values(measures=sa.bindparam("new_measures")),
            [{"wanted_id": number, "new_measures": asdict(own)} for number, own in measures.items()],
        )
        renewed = [replace(d, measures=measures.get(d.id, d.measures)) for d in self.droplets()]
        self._droplets = apply_filters(renewed, self.filters)
        self._changed = True

    def set_filters(self, filters: Filters) -> None:
        """Replace the filters."""
        self._set(filters=filters_as_dict(filters))

    def set_calibration(self, calibration: Calibration | None) -> None:
        """Replace the scale; None means pixels only."""
        self._set(calibration=calibration_as_dict(calibration))

    def set_setting(self, name: str, value: Any) -> None:
        """Replace one further setting by a JSON value; None takes it away."""
        if self._settings.get(name) == value:
            return
        table = db.image_setting_table
        here = (table.c.image_id == self._record.id) & (table.c.name == name)
        self._connection.execute(table.delete().where(here))
        if value is None:
            del self._settings[name]
        else:
            row = {"image_id": self._record.id, "name": name, "value": value}
            self._connection.execute(table.insert().values(**row))
            self._settings[name] = value
        self._changed = True

    def set_provenance(
        self,
        *,
        model: dict[str, Any],
        parameters: dict[str, Any],
        timings_s: dict[str, float],
        message: str | None,
    ) -> None:
        """Say which model and parameters gave the automatic droplets, and how long it took.

        What was said of earlier searches is kept, so that one can be undone; see ``set_search``.
        """
        said = {"model": model, "parameters": parameters, "timings_s": timings_s, "message": message}
        if all(self._row[name] == value for name, value in said.items()):
            return
        searches = dict(self._settings.get(_SEARCHES) or {})
        if not searches and self._row["model"] is not None:  # one of before searches were numbered
            searches["0"] = {name: self._row[name] for name in said}
        number = 1 + max((int(known) for known in searches), default=0)
        kept = list(searches.items())[1 - _KEPT_SEARCHES :]
        self.set_setting(_SEARCHES, {**dict(kept), str(number): said})
        self.set_setting("search", number)
        self._set(**said)

    def set_search(self, number: int) -> None:
        """Say that the automatic droplets are those of an earlier search again; 0 means: of none.

        InputError for a search that never was; of one that is long past nothing is said any more.
        """
        searches = self._settings.get(_SEARCHES) or {}
        last = max((int(known) for known in searches), default=0)
        if number > last:
            raise InputError(f"There was no search {number} on this image; the last one is {last}.")
        self.set_setting("search", number or None)
        nothing: dict[str, Any] = {"model": None, "parameters": {}, "timings_s": {}, "message": None}
        self._set(**searches.get(str(number), nothing))

    def set_rim_offset(self, rim_offset_px: float) -> None:
        """Say which rim offset the outlines have, as undoing a search brings earlier ones back."""
        if rim_offset_px != self.rim_offset_px:
            self._set(parameters=(self._row["parameters"] or {}) | {"rim_offset_px": rim_offset_px})

    def save(self) -> None:
        """Write the next revision where anything changed; the transaction's end makes it last."""
        if not self._changed:
            return
        droplets = self.droplets()
        self._row.update(
            revision=self.revision + 1,
            n_found=len(droplets),
            n_included=sum(droplet.included for droplet in droplets),
        )
        values = {name: value for name, value in self._row.items() if name != "image_id"}
        self._connection.execute(
            db.annotation_table.update()
            .where(db.annotation_table.c.image_id == self._record.id)
            .values(**values)
        )
        self._record = replace(
            self._record,
            n_found=self._row["n_found"],
            n_included=self._row["n_included"],
            calibration=self.calibration,
        )
        self._changed = False

    def annotation(self) -> Annotation:
        """Return all of it; save first where something changed."""
        return Annotation(
            image=self._record,
            revision=self.revision,
            droplets=self.droplets(),
            filters=self.filters,
            calibration=self.calibration,
            model=self._row["model"],
            parameters=self._row["parameters"],
            timings_s=self._row["timings_s"],
            message=self._row["message"],
            settings=dict(self._settings),
        )

    def _set(self, **values: Any) -> None:
        if all(self._row[name] == value for name, value in values.items()):
            return
        self._row.update(values)
        self._changed = True
        if "filters" in values:
            self._droplets = None

    def _set_flag(self, column: str, ids: Iterable[int], value: bool) -> None:
        wanted = sorted(set(ids))
        if not wanted:
            return
        query = sa.select(db.droplet_table.c.droplet_id, db.droplet_table.c[column]).where(
            db.droplet_table.c.image_id == self._record.id
        )
        known = {droplet_id: bool(flag) for droplet_id, flag in self._connection.execute(query)}
        unknown = [droplet_id for droplet_id in wanted if droplet_id not in known]
        if unknown:
            raise NotFound(
                f"There is no droplet {unknown[0]} on this image (droplets are numbered from 1 to "
                f"{self._row['next_droplet_id'] - 1}); reload the page to see what is there."
            )
        changing = [droplet_id for droplet_id in wanted if known[droplet_id] != value]
        if not changing:
            return
        self._connection.execute(
            db.droplet_table.update()
            .where(
                db.droplet_table.c.image_id == self._record.id,
                db.droplet_table.c.droplet_id == sa.bindparam("wanted_id"),
            )
            .values({column: value}),
            [{"wanted_id": droplet_id} for droplet_id in changing],
        )
        self._droplets = None
        self._changed = True
