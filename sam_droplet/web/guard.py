"""What must hold before any view runs: an allowed host, no cross-site writes, and a known caller."""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, g, request, session
from flask.sessions import SecureCookieSessionInterface

from sam_droplet.config import Config
from sam_droplet.errors import AuthenticationError, ConfigError, PermissionDenied, Unavailable
from sam_droplet.service.access import LOCAL_CALLER, Caller, KeyRing
from sam_droplet.web.services import services

PAGE_HEADER = "X-SAM-Droplet"
KEY_HEADERS = ("X-API-Key", "X-Admin-Key")
PROXY_HEADERS = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
SESSION_OWNER = "owner"
SESSION_MARK = "mark"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_ENDPOINTS = frozenset(
    {"static", "ops.health", "ops.livez", "ops.readyz", "pages.login", "pages.log_in", "pages.log_out"}
)
# A shared link carries a secret of its own, which these check; they only ever read.
_SHARED_ENDPOINTS = frozenset(
    f"shared.{name}" for name in ("page", "annotation", "assays", "report", "view", "tile", "export")
)
# Addresses of the original application: scripts without any header of ours call them.
_SCRIPT_BLUEPRINT, _PAGES_BLUEPRINT = "legacy", "pages"


class SessionCookie(SecureCookieSessionInterface):
    """Mark the login cookie secure exactly where the browser came by HTTPS."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether this request came by HTTPS, also through an own proxy."""
        return request.is_secure


def init_app(app: Flask) -> None:
    """Check every request before its view."""
    app.session_interface = SessionCookie()
    app.before_request(_check)


def check_bind_address(host: str, config: Config, key_ring: KeyRing) -> None:
    """Raise ConfigError for a server that would be open to the network without any key."""
    if is_loopback(host) or config.allow_public_without_keys or key_ring.any_exist():
        return
    raise ConfigError(
        f"{host} can be reached from the network, and no API key exists, so anybody could use this server. "
        "Make a key with `sam-droplet key create NAME`, or listen on 127.0.0.1, or set "
        "ALLOW_PUBLIC_WITHOUT_KEYS=true if everybody who can reach it may use it."
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer only."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def session_secret(config: Config) -> str:
    """Return what signs the login cookies: the setting, or one made once and kept in the data folder."""
    if config.secret_key:
        return config.secret_key
    path = config.data_dir / "secret_key"
    try:
        return path.read_text() if path.exists() else _made_once(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror}); check the data folder.") from error


def _made_once(path: Path) -> str:
    try:
        descriptor = os.open(path.with_suffix(f".{os.getpid()}.tmp"), os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(48))
        # A link fails where the file is there already, so all workers agree on the first one.
        path.hardlink_to(path.with_suffix(f".{os.getpid()}.tmp"))
    except FileExistsError:
        pass
    finally:
        path.with_suffix(f".{os.getpid()}.tmp").unlink(missing_ok=True)
    return path.read_text()


def _check() -> None:
    g.config = services().config
    g.caller = LOCAL_CALLER
    if request.endpoint in _OPEN_ENDPOINTS or request.endpoint in _SHARED_ENDPOINTS:
        _check_site()
        return
    closed = services().key_ring.any_exist()
    if closed:
        g.caller = _authenticate(services().key_ring)
        services().key_ring.count_request(g.caller)
    else:
        _check_local_host()
    _check_site()
    if not _shows_intent():
        raise PermissionDenied(
            f"Send the header {PAGE_HEADER}: 1 with every request that changes something, so that no other "
            "web site can make a browser send it."
        )


def _check_local_host() -> None:
    """Without keys only this computer may ask, under its own names: a rebound DNS name is refused."""
    if services().config.allow_public_without_keys:
        return
    if not services().config.trusted_proxies and any(name in request.headers for name in PROXY_HEADERS):
        # To us the proxy is this computer, and the name is whatever its client claims.
        raise PermissionDenied(
            "This request came through a proxy, and without keys this server is open for its own computer "
            "only. Make an API key with `sam-droplet key create NAME`."
        )
    host = urlsplit(f"//{request.host}").hostname or ""
    # The host name is the client's claim, the address is not; a page elsewhere controls only the name.
    if not is_loopback(host) or not is_loopback(request.remote_addr or ""):
        raise PermissionDenied(
            "This server is open for its own computer only, as http://localhost or http://127.0.0.1. "
            "To use it under another name, make an API key with `sam-droplet key create NAME`."
        )


def _check_site() -> None:
    """Refuse writes that a browser sends on behalf of another web site."""
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        origin = request.headers.get("Origin")
        foreign = origin is not None and _host_of(origin) != request.host
    if foreign:
        raise PermissionDenied(
            "Another web site sent this request; open SAM Droplet itself and repeat it there."
        )


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return None


def _shows_intent() -> bool:
    if request.method in _SAFE_METHODS or request.endpoint is None:
        return True
    if request.blueprint == _SCRIPT_BLUEPRINT or _key_from_headers() is not None:
        return True
    return request.headers.get(PAGE_HEADER) is not None


def _key_from_headers() -> str | None:
    for name in KEY_HEADERS:
        key = request.headers.get(name)
        if key:
            return key
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _authenticate(key_ring: KeyRing) -> Caller:
    key = _key_from_headers()
    if key is not None:
        return key_ring.authenticate(key)
    owner, mark = session.get(SESSION_OWNER), session.get(SESSION_MARK, "")
    if isinstance(owner, str) and isinstance(mark, str) and request.blueprint != _SCRIPT_BLUEPRINT:
        # A page renews its login. Were every answer to, one still on its way would undo a logging out.
        session.modified = request.blueprint == _PAGES_BLUEPRINT
        return key_ring.caller_by_login(owner, mark)
    raise AuthenticationError(
        "This server needs a key: send it as the header X-API-Key, or log in at /login in a browser."
    )
