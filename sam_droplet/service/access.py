"""Who may come in: API keys kept as hashes, and the caller that each request acts for."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from limits import parse_many

from sam_droplet.config import Config
from sam_droplet.errors import AuthenticationError, InputError, NotFound, Unavailable
from sam_droplet.service import database as db
from sam_droplet.service.store import Store

log = logging.getLogger(__name__)

SCOPES = ("user", "admin")
USAGE_FLUSH_S = 10.0
MAX_NAME_LENGTH = 100
_ID_BYTES = 6
_SECRET_BYTES = 32
_LOGGED_OUT = "You are logged out; log in with your key again."
_WRONG_KEY = "This API key is not valid here; check it, or ask the server's administrator for a new one."


@dataclass(frozen=True)
class Caller:
    """Whom a request acts for. ``owner`` is the name that everything stored is filed under."""

    owner: str
    key_id: str | None
    scope: str
    rate_limit: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the caller may see the whole installation."""
        return self.scope in ("admin", "local")


LOCAL_CALLER = Caller(owner="local", key_id=None, scope="local")


@dataclass(frozen=True)
class KeyRecord:
    """Describe an API key; its secret is not kept anywhere. Times are seconds since 1970."""

    id: str
    name: str
    scope: str
    rate_limit: str | None
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    n_requests: int


def owner_of(key_id: str) -> str:
    """Return the name that everything of a key is filed under."""
    return f"key_{key_id}"


class KeyRing:
    """Create, list, revoke and check the API keys of an installation."""

    def __init__(
        self, database: db.Database, *, static_keys: Sequence[str] = (), admin_key: str | None = None
    ) -> None:
        self._database = database
        self._static = {_static_caller(key, "user").owner: (key, "user") for key in static_keys}
        if admin_key:
            self._static[_static_caller(admin_key, "admin").owner] = (admin_key, "admin")
        self._usage: Counter[str] = Counter()
        self._flushed_at = time.monotonic()
        self._lock = threading.Lock()

    def create(
        self,
        name: str,
        *,
        scope: str = "user",
        expires_in_s: float | None = None,
        rate_limit: str | None = None,
    ) -> tuple[KeyRecord, str]:
        """Make a key and return its record and the key itself, which is shown this once only.

        The secret has 256 random bits, so a plain SHA-256 of it is safe to keep.
        """
        if scope not in SCOPES:
            raise InputError(f"The scope of a key is {' or '.join(SCOPES)}, not {scope!r}.")
        if not name.strip() or len(name) > MAX_NAME_LENGTH:
            raise InputError(f"A key needs a name of 1 to {MAX_NAME_LENGTH} characters, such as its user's.")
        _check_rate_limit(rate_limit)
        key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        now = time.time()
        with self._database.writing() as connection:
            connection.execute(
                db.key_table.insert().values(
                    id=key_id,
                    secret_sha256=_sha256(secret),
                    name=name,
                    scope=scope,
                    rate_limit=rate_limit,
                    created_at=now,
                    expires_at=None if expires_in_s is None else now + expires_in_s,
                    n_requests=0,
                )
            )
        return self._record(key_id), f"sd_{key_id}_{secret}"

    def list(self) -> list[KeyRecord]:
        """Return all keys, also the revoked ones, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(db.key_table).order_by(db.key_table.c.created_at)).mappings()
            return [_record_from_row(row) for row in rows]

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key at once, until it is renewed; revoking twice changes nothing."""
        with self._database.writing() as connection:
            connection.execute(
                db.key_table.update()
                .where(db.key_table.c.id == key_id, db.key_table.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
        return self._record(key_id)

    def renew(self, key_id: str) -> tuple[KeyRecord, str]:
        """Give a key a new secret: who lost it keeps all images, and the old secret ends at once.

        A revoked or expired key comes back without an end.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._database.writing() as connection:
            connection.execute(
                db.key_table.update()
                .where(db.key_table.c.id == key_id)
                .values(secret_sha256=_sha256(secret), revoked_at=None, expires_at=None)
            )
        return self._record(key_id), f"sd_{key_id}_{secret}"

    def any_exist(self) -> bool:
        """Whether callers must show a key: so from the first key on, and even after all are revoked.

        Revoking the last key must never open the server to everybody.
        """
        if self._static:
            return True
        query = sa.select(sa.literal(1)).select_from(db.key_table).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none() is not None

    def authenticate(self, key: str) -> Caller:
        """Return the caller that a key stands for; AuthenticationError where it is not valid."""
        for static_key, scope in self._static.values():
            if hmac.compare_digest(_sha256(static_key), _sha256(key)):
                return _static_caller(static_key, scope)
        parts = key.split("_", 2)
        if len(parts) != 3 or parts[0] != "sd":
            raise AuthenticationError(_WRONG_KEY)
        with self._database.reading() as connection:
            row = (
                connection.execute(sa.select(db.key_table).where(db.key_table.c.id == parts[1]))
                .mappings()
                .first()
            )
        # Found by its public id, so the time taken tells nothing about the secret.
        expected = _sha256("") if row is None else row["secret_sha256"]
        right = hmac.compare_digest(expected, _sha256(parts[2]))
        if row is None or not right:
            raise AuthenticationError(_WRONG_KEY)
        return self._caller_of(_record_from_row(row))

    def login_mark(self, owner: str) -> str:
        """Return what a browser login keeps beside its owner: another one once the key has a new secret."""
        if owner in self._static:
            return ""  # such an owner is named after the key itself
        return _login_mark(self._row(owner.removeprefix("key_")))

    def caller_by_login(self, owner: str, mark: str) -> Caller:
        """Return the caller of a browser login, if its key is still valid and has not been renewed since."""
        if owner in self._static:
            return _static_caller(*self._static[owner])
        try:
            row = self._row(owner.removeprefix("key_"))
        except NotFound as error:
            raise AuthenticationError(_LOGGED_OUT) from error
        if not hmac.compare_digest(_login_mark(row).encode(), mark.encode()):
            raise AuthenticationError(_LOGGED_OUT)
        return self._caller_of(_record_from_row(row))

    def count_request(self, caller: Caller) -> None:
        """Count a request of a key; written to disk at most every few seconds."""
        if caller.key_id is None or caller.owner in self._static:
            return
        with self._lock:
            self._usage[caller.key_id] += 1
            is_due = time.monotonic() - self._flushed_at > USAGE_FLUSH_S
        if is_due:
            self.flush_usage()

    def flush_usage(self) -> None:
        """Write the counted requests now, or later where nothing can be written: requests go on."""
        with self._lock:
            usage, self._usage = self._usage, Counter()
            self._flushed_at = time.monotonic()
        try:
            self._write_usage(usage)
        except Unavailable as error:
            log.warning("The usage of keys could not be written and is tried again: %s", error.message)
            with self._lock:
                self._usage.update(usage)

    def _write_usage(self, usage: Counter[str]) -> None:
        if not usage:
            return
        with self._database.writing() as connection:
            for key_id, count in usage.items():
                connection.execute(
                    db.key_table.update()
                    .where(db.key_table.c.id == key_id)
                    .values(n_requests=db.key_table.c.n_requests + count, last_used_at=time.time())
                )

    def _record(self, key_id: str) -> KeyRecord:
        return _record_from_row(self._row(key_id))

    def _row(self, key_id: str) -> sa.RowMapping:
        with self._database.reading() as connection:
            row = (
                connection.execute(sa.select(db.key_table).where(db.key_table.c.id == key_id))
                .mappings()
                .first()
            )
        if row is None:
            raise NotFound(f"There is no key with the id {key_id!r}; `sam-droplet key list` shows them.")
        return row

    def _caller_of(self, record: KeyRecord) -> Caller:
        if record.revoked_at is not None:
            raise AuthenticationError(
                "This API key was revoked; ask the server's administrator for a new one."
            )
        if record.expires_at is not None and record.expires_at <= time.time():
            raise AuthenticationError(
                "This API key has expired; ask the server's administrator for a new one."
            )
        return Caller(owner_of(record.id), record.id, record.scope, record.rate_limit)


def open_key_ring(config: Config, store: Store) -> KeyRing:
    """Return the keys of an installation: those in its database and those in its settings."""
    return KeyRing(store.database, static_keys=config.api_keys, admin_key=config.admin_key)


def _check_rate_limit(rate_limit: str | None) -> None:
    if rate_limit is None:
        return
    try:
        parse_many(rate_limit)
    except ValueError as error:
        raise InputError(
            f"A rate limit reads like '100 per hour' or '10 per minute; 100 per day', not {rate_limit!r}."
        ) from error


def _static_caller(key: str, scope: str) -> Caller:
    short = _sha256(key)[:12]
    return Caller(owner=f"env_{short}", key_id=f"env_{short}", scope=scope)


def _login_mark(row: sa.RowMapping) -> str:
    # A hash of the hash that is kept: what a browser holds opens nothing by itself.
    return _sha256(f"login {row['secret_sha256']}")[:32]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _record_from_row(row: sa.RowMapping) -> KeyRecord:
    return KeyRecord(**{name: value for name, value in row.items() if name != "secret_sha256"})
