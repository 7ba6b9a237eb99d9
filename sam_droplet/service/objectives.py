"""Saved objectives: what one pixel measures with each, once typed and then picked, owner by owner."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from sam_droplet.errors import InputError, NotFound
from sam_droplet.service import database as db

MAX_NAME_LENGTH = 60
MAX_OBJECTIVES = 100


@dataclass(frozen=True)
class Objective:
    """Hold an objective's name and the width of a pixel with it."""

    name: str
    um_per_px: float


class Objectives:
    """Keep the objectives of every owner in the installation's database."""

    def __init__(self, database: db.Database) -> None:
        self._database = database

    def list(self, owner: str) -> list[Objective]:
        """Return an owner's objectives, the strongest magnification last."""
        table = db.objective_table
        query = (
            sa.select(table.c.name, table.c.um_per_px)
            .where(table.c.owner == owner)
            .order_by(table.c.um_per_px.desc(), table.c.name)
        )
        with self._database.reading() as connection:
            return [Objective(row.name, float(row.um_per_px)) for row in connection.execute(query)]

    def save(self, owner: str, name: str, um_per_px: float) -> Objective:
        """Keep an objective; one of the same name is replaced."""
        name = " ".join(name.split())
        if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise InputError(f"An objective needs a name of 1 to {MAX_NAME_LENGTH} characters, such as 20x.")
        table = db.objective_table
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.owner == owner, table.c.name == name))
            count = sa.select(sa.func.count()).select_from(table).where(table.c.owner == owner)
            if connection.execute(count).scalar_one() >= MAX_OBJECTIVES:
                raise InputError(f"There are {MAX_OBJECTIVES} objectives already; delete one first.")
            connection.execute(table.insert().values(owner=owner, name=name, um_per_px=um_per_px))
        return Objective(name, um_per_px)

    def delete(self, owner: str, name: str) -> None:
        """Forget an objective; images that were measured with it keep their scale."""
        table = db.objective_table
        with self._database.writing() as connection:
            gone = connection.execute(table.delete().where(table.c.owner == owner, table.c.name == name))
            if not gone.rowcount:
                raise NotFound(f"There is no objective {name[:MAX_NAME_LENGTH]!r}.")

    def hand_over(self, from_owner: str, to_owner: str) -> None:
        """Give all objectives of one owner to another who has none yet."""
        table = db.objective_table
        with self._database.writing() as connection:
            connection.execute(table.update().where(table.c.owner == from_owner).values(owner=to_owner))
