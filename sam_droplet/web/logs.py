"""Logging of the servers: one JSON object a line, to standard error or to a file that may be rotated."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
from typing import Any

from sam_droplet.config import Config
from sam_droplet.errors import ConfigError

FIELDS = ("request_id", "key_id", "duration_ms", "n_bytes_in", "remote")
_ROTATE_BYTES = 10 << 20


class JsonLines(logging.Formatter):
    """Write a record as one line of JSON, so that no user's text can forge a second line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(config: Config) -> None:
    """Send the log of this process where the settings say; for servers only, never for a library."""
    handler = _handler(config)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level)


def _handler(config: Config) -> logging.Handler:
    if config.log_file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        config.log_file.parent.mkdir(parents=True, exist_ok=True)
        if os.name == "nt":  # one process there, and nobody else rotates
            return logging.handlers.RotatingFileHandler(
                config.log_file, maxBytes=_ROTATE_BYTES, backupCount=5, encoding="utf-8"
            )
        # Several workers write to it, so logrotate renames it and this handler notices.
        return logging.handlers.WatchedFileHandler(config.log_file, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"LOG_FILE {config.log_file} cannot be written ({error.strerror}).") from error
