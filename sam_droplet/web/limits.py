"""How often a caller may ask: the script addresses are limited, by key or else by address."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import pathname2url, url2pathname

from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_limiter import HeaderNames, Limiter
from flask_limiter.errors import RateLimitExceeded
from limits.errors import ConfigurationError
from limits.storage import MemoryStorage, Storage

from sam_droplet.config import Config
from sam_droplet.errors import ConfigError, TooManyRequests, Unavailable
from sam_droplet.service.access import Caller
from sam_droplet.service.shared_counts import SharedCounts
from sam_droplet.web.responses import error_response

log = logging.getLogger(__name__)


class SharedStorage(Storage):
    """Let flask-limiter count in our own file, so that limits are right across workers without Redis.

    Where the file cannot be written, this process counts alone meanwhile: a full disk refuses nobody.
    """

    STORAGE_SCHEME = ["samdroplet"]  # noqa: RUF012 - the library declares a list

    def __init__(self, uri: str, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._counts = SharedCounts(Path(url2pathname(urlsplit(uri).path)))
        self._alone = MemoryStorage()

    @property
    def base_exceptions(self) -> type[Exception]:
        """Return what a failure raises."""
        return Unavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and return the sum of the window."""
        try:
            return self._counts.add(key, expiry, amount)
        except Unavailable as error:
            log.warning("This process counts requests alone: %s", error.message)
            return self._alone.incr(key, expiry, amount)

    def get(self, key: str) -> int:
        """Return the sum of the window."""
        return max(self._shared(key)[0], self._alone.get(key))

    def get_expiry(self, key: str) -> float:
        """Return when the window ends, in seconds since 1970."""
        return max(self._shared(key)[1], self._alone.get_expiry(key))

    def check(self) -> bool:
        """Return whether counting works."""
        return True

    def reset(self) -> int | None:
        """Forget every count."""
        self._alone.reset()
        return self._counts.clear()

    def clear(self, key: str) -> None:
        """Forget one count."""
        self._alone.clear(key)
        self._counts.clear(key)

    def _shared(self, key: str) -> tuple[int, float]:
        try:
            return self._counts.get(key)
        except Unavailable:
            return 0, time.time()


# A Redis that takes connections and never answers must not hold every request for ever.
REDIS_PATIENCE: dict[str, str | int] = {"socket_connect_timeout": 1, "socket_timeout": 1}
SEGMENT_VIEWS = ("legacy.segment", "legacy.segment_file", "legacy.advanced_analysis")
GENERAL_VIEWS = ("legacy.analyze_image", "legacy.download_analysis")


def init_app(app: Flask, config: Config) -> None:
    """Limit the script addresses; the page's own requests are bounded by the queue instead."""
    limiter = _limiter(app, config)

    def general() -> str:
        caller: Caller | None = g.get("caller")
        return caller.rate_limit if caller and caller.rate_limit else config.rate_limit_default

    def segmenting() -> str:
        return config.rate_limit_segment

    for endpoint in SEGMENT_VIEWS + GENERAL_VIEWS:
        view: Any = app.view_functions[endpoint]
        if endpoint in SEGMENT_VIEWS:
            view = limiter.limit(segmenting, deduct_when=_was_served)(view)
        # One budget for all script addresses, as the setting says "in general".
        app.view_functions[endpoint] = limiter.shared_limit(general, "scripts", deduct_when=_was_served)(view)
    app.extensions["sam_droplet_limiter"] = limiter
    app.register_error_handler(RateLimitExceeded, _on_exceeded)


def _limiter(app: Flask, config: Config) -> Limiter:
    try:
        return Limiter(
            _who,
            app=app,
            storage_uri=_counted_in(config),
            strategy="fixed-window",
            headers_enabled=True,
            # Its Retry-After, the end of the window on every answer, would stand over that of a full queue.
            header_name_mapping={HeaderNames.RETRY_AFTER: "X-RateLimit-Retry-After"},
            # Redis gone: count in this process rather than refuse everybody or nobody.
            in_memory_fallback_enabled=config.redis_url is not None,
            storage_options=REDIS_PATIENCE if config.redis_url else None,
        )
    except (ConfigurationError, ValueError) as error:
        raise ConfigError(
            "REDIS_URL must be the address of a Redis, such as redis://localhost:6379/0 (value hidden: it is "
            "a secret)."
        ) from error


def _counted_in(config: Config) -> str:
    if config.redis_url is None:
        return f"samdroplet://{pathname2url(str(counts_path(config)))}"
    # redis-py's own name for a socket file; limits knows it under another one.
    return f"redis+{config.redis_url}" if config.redis_url.startswith("unix://") else config.redis_url


def counts_path(config: Config) -> Path:
    """Return the file in which all workers of this machine count requests."""
    return (config.data_dir / "request_counts.sqlite3").absolute()


def _was_served(response: Response) -> bool:
    """Whether a request counts: one that a busy server sent away does not."""
    return response.status_code != 503


def _who() -> str:
    caller: Caller | None = g.get("caller")
    if caller is not None and caller.key_id is not None:
        return caller.owner
    return _network_of(request.remote_addr or "unknown")


def _network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 that one IPv6 customer has to himself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:  # who comes by IPv4 to a server that listens on ::
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _on_exceeded(error: RateLimitExceeded) -> ResponseReturnValue:
    breached = current_app.extensions["sam_droplet_limiter"].current_limit
    wait_s = 1 if breached is None else max(1, math.ceil(breached.reset_at - time.time()))
    refusal = TooManyRequests(
        f"The limit of {error.limit.limit} is used up; try again in {wait_s} s.", retry_after_s=wait_s
    )
    return error_response(refusal.as_dict(), wait_s)
