"""The SQLite database of an installation: its tables, and transactions that are safe across processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError
from sqlalchemy.schema import CreateColumn

from sam_droplet.errors import ConfigError, Unavailable

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 15.0

metadata = MetaData()

image_table = Table(
    "images",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("file_sha256", String(64), nullable=False, index=True),
    Column("n_bytes", Integer, nullable=False),
    Column("page", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("n_channels", Integer, nullable=False),
    Column("channel_names", sa.JSON, nullable=False),
    Column("bit_depth", Integer, nullable=False),
    Column("n_pages", Integer, nullable=False),
    Column("format", String(32), nullable=False),
    Column("notes", sa.JSON, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("used_at", sa.Float, nullable=False),
    sa.UniqueConstraint("owner", "digest", "name", "page"),
    Index("images_by_owner", "owner", "created_at"),
)

annotation_table = Table(
    "annotations",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("next_droplet_id", Integer, nullable=False),
    Column("filters", sa.JSON, nullable=False),
    Column("calibration", sa.JSON),
    Column("model", sa.JSON),
    Column("parameters", sa.JSON, nullable=False),
    Column("timings_s", sa.JSON, nullable=False),
    Column("message", Text),
    Column("n_found", Integer, nullable=False),
    Column("n_included", Integer, nullable=False),
)

droplet_table = Table(
    "droplets",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("droplet_id", Integer, primary_key=True),
    Column("source", String(16), nullable=False),
    Column("score", sa.Float, nullable=False),
    Column("model", String(64), nullable=False),
    Column("box_xyxy", sa.JSON, nullable=False),
    Column("bits", LargeBinary, nullable=False),
    Column("contour", LargeBinary),
    Column("measures", sa.JSON, nullable=False),
    Column("excluded_by_user", sa.Boolean, nullable=False, default=False),
    Column("included_by_user", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    Column("deleted", sa.Boolean, nullable=False, default=False),
)

# What else belongs to an image's annotation, by name: its assays, its channel, the rim's offset.
image_setting_table = Table(
    "image_settings",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", sa.JSON, nullable=False),
)

objective_table = Table(
    "objectives",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("um_per_px", sa.Float, nullable=False),
)

key_table = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("rate_limit", Text),
    Column("created_at", sa.Float, nullable=False),
    Column("expires_at", sa.Float),
    Column("last_used_at", sa.Float),
    Column("revoked_at", sa.Float),
    Column("n_requests", Integer, nullable=False, default=0),
)

share_table = Table(
    "shares",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", sa.Float, nullable=False),
)


class Database:
    """Open the database file, make its tables where they are missing, and hand out transactions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _make_engine(path)
        with _translated_errors():
            _prepare(self._engine)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give one consistent snapshot, never blocked by writers."""
        with self._answering_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give the only write transaction of all processes; it commits at the end of the block.

        Taking the write lock first means that what is read inside cannot change before the commit.
        """
        with self._answering_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(sam_droplet_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _answering_errors(self) -> Iterator[None]:
        """Say in words what went wrong; after it, open the file anew.

        SQLite opens a file on a disk that cannot be written for reading only, and all connections of a
        process share that: only when every one is closed does it notice that the disk has healed.
        """
        try:
            with _translated_errors():
                yield
        except Unavailable:
            self._engine.dispose()
            raise

    def check_writable(self) -> None:
        """Raise Unavailable where nothing can be written; never waits for other writers."""
        address = f"{self.path.absolute().as_uri()}?mode=rw"  # rw: never makes a new, empty database
        with self._answering_errors(), closing(sqlite3.connect(address, timeout=0.0, uri=True)) as connection:
            connection.isolation_level = None
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                return  # somebody is writing
            # Taking the lock alone writes nothing, so it would succeed on a full disk.
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _make_engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),  # in a text, a folder's "?" would begin a query
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=16,
        max_overflow=48,
    )
    sa.event.listen(engine, "connect", _configure_connection)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _configure_connection(connection: sqlite3.Connection, _record: Any) -> None:
    # None leaves BEGIN to us: the driver's own implicit BEGIN would come too late to lock before reading.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("sam_droplet_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare(engine: sa.Engine) -> None:
    _enable_wal(engine)
    with engine.connect() as connection, connection.begin():
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version == SCHEMA_VERSION and not lacks_tables(connection, metadata):
            return  # nothing to write, so that a server starts on a full disk and people can read and delete
    with engine.connect() as connection:
        connection = connection.execution_options(sam_droplet_writes=True)
        with connection.begin():
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version > SCHEMA_VERSION:
                raise ConfigError(
                    f"The data folder was written by a newer SAM Droplet (schema {version}, "
                    f"this one reads {SCHEMA_VERSION}); upgrade, or choose another DATA_DIR."
                )
            make_tables(connection, metadata)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def lacks_tables(connection: sa.Connection, tables: MetaData) -> bool:
    """Whether tables are missing, or columns of theirs, of which an older version made fewer."""
    inspector = sa.inspect(connection)
    return any(
        not inspector.has_table(table.name) or _missing_columns(inspector, table)
        for table in tables.sorted_tables
    )


def make_tables(connection: sa.Connection, tables: MetaData) -> None:
    """Make the tables and columns that are missing; rows that are there get the default or null."""
    inspector = sa.inspect(connection)
    for table in tables.sorted_tables:
        for column in _missing_columns(inspector, table) if inspector.has_table(table.name) else ():
            described = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {described}")
    tables.create_all(connection)


def _missing_columns(inspector: sa.Inspector, table: Table) -> list[Column[Any]]:
    there = {column["name"] for column in inspector.get_columns(table.name)}
    return [column for column in table.columns if column.name not in there]


def _enable_wal(engine: sa.Engine) -> None:
    """Switch to write-ahead logging; the switch ignores the busy timeout, so it is tried again here."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise Unavailable(
                    f"The database cannot be opened ({error}); check the data folder."
                ) from error
            time.sleep(0.02)
        finally:
            raw.close()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise  # a mistake of ours, not of the disk
    except DatabaseError as error:
        raise _unavailable(error) from error
    except sqlite3.DatabaseError as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    text = str(getattr(error, "orig", error))
    if "full" in text:
        message = "The server's disk is full, so nothing was saved; free space in the data folder."
    elif "locked" in text or "busy" in text:
        message = "The server's database is busy, so nothing was saved; try again."
    elif "disk I/O" in text:
        message = (
            "The disk of the server's data folder failed, so nothing was saved; it may be full: free space "
            "there, or have the disk checked."
        )
    elif "readonly" in text or "unable to open" in text:
        message = "The server's data folder cannot be written, so nothing was saved; check its permissions."
    elif "malformed" in text or "not a database" in text:
        message = (
            "The server's database is damaged; stop the server and restore it from a backup "
            "(see deploy/README.md)."
        )
    else:
        message = f"The server's database failed ({text}); try again."
    return Unavailable(message, retry_after_s=10)
