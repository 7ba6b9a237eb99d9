"""Links by which others may look at one image and its results, and change nothing."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa

from sam_droplet.errors import NotFound
from sam_droplet.service import database as db
from sam_droplet.service.store import own_record

LASTS_S = 30 * 86400.0
_TOKEN_BYTES = 24
_NO_SUCH_SHARE = "This link is no longer valid: it was withdrawn or has run out. Ask for a new one."


@dataclass(frozen=True)
class Share:
    """Say whose image a link shows, and until when, in seconds since 1970."""

    owner: str
    image_id: str
    expires_at: float


class Shares:
    """Make, follow and withdraw links. Only hashes are kept, so a copy of the database opens nothing."""

    def __init__(self, database: db.Database) -> None:
        self._database = database

    def create(self, owner: str, image_id: str) -> tuple[str, Share]:
        """Return a new secret and what it opens, for 30 days; NotFound unless the image is the owner's."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        share = Share(owner, image_id, time.time() + LASTS_S)
        with self._database.writing() as connection:
            own_record(connection, owner, image_id)
            connection.execute(db.share_table.delete().where(db.share_table.c.expires_at < time.time()))
            connection.execute(
                db.share_table.insert().values(
                    token_sha256=_hash(token), image_id=image_id, expires_at=share.expires_at
                )
            )
        return token, share

    def follow(self, token: str) -> Share:
        """Return what a secret opens; NotFound for a wrong, withdrawn or expired one."""
        query = (
            sa.select(db.image_table.c.owner, db.image_table.c.id, db.share_table.c.expires_at)
            .join_from(db.share_table, db.image_table)
            .where(db.share_table.c.token_sha256 == _hash(token), db.share_table.c.expires_at >= time.time())
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(_NO_SUCH_SHARE)
        return Share(row.owner, row.id, row.expires_at)

    def count(self, image_id: str) -> int:
        """Return how many links to an image work now."""
        query = sa.select(sa.func.count()).where(
            db.share_table.c.image_id == image_id, db.share_table.c.expires_at >= time.time()
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def withdraw(self, image_id: str) -> None:
        """Make every link to an image invalid."""
        with self._database.writing() as connection:
            connection.execute(db.share_table.delete().where(db.share_table.c.image_id == image_id))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
