"""Every setting once: its name, default, help and check. The only reader of os.environ and of .env.

A setting is one field of Config; SETTINGS is read off those fields, so nothing is listed twice.
"""
# The call in each field below only carries metadata; its default is immutable.
# ruff: noqa: RUF009

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dotenv import dotenv_values

from sam_droplet.errors import ConfigError

MASK = "********"
_RATE = r"\d+\s*(?:per|/)\s*(?:\d+\s*)?(?:second|minute|hour|day|month|year)s?"
_RATES = re.compile(rf"{_RATE}(?:\s*[;,]\s*{_RATE})*", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """Say in words what a setting takes, and read it; ``read`` raises ValueError on anything else."""

    expected: str
    read: Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One row of the settings table; ``name`` is the environment variable."""

    name: str
    kind: Kind
    default: Any
    help: str
    secret: bool


@dataclass(frozen=True)
class SettingRow:
    """One line of ``sam-droplet settings``; a secret's value is masked."""

    name: str
    value: str
    source: str
    help: str


def _check(condition: object) -> None:
    if not condition:
        raise ValueError


def _integer(low: int, high: int) -> Kind:
    def read(text: str) -> int:
        value = int(text)
        _check(low <= value <= high)
        return value

    return Kind(f"a whole number from {low} to {high}", read)


def _number(low: float, high: float) -> Kind:
    def read(text: str) -> float:
        value = float(text)
        _check(low <= value <= high)
        return value

    return Kind(f"a number from {low:g} to {high:g}", read)


def _choice(*allowed: str) -> Kind:
    def read(text: str) -> str:
        matches = [value for value in allowed if value.lower() == text.lower()]
        _check(matches)
        return matches[0]

    return Kind(f"one of {', '.join(allowed)}", read)


def _read_flag(text: str) -> bool:
    lowered = text.lower()
    _check(lowered in {"1", "true", "yes", "on", "0", "false", "no", "off"})
    return lowered in {"1", "true", "yes", "on"}


def _read_rate(text: str) -> str:
    _check(_RATES.fullmatch(text))
    return text


def _read_path(text: str) -> Path:
    _check("\0" not in text)
    return Path(text).expanduser()


def _read_host(text: str) -> str:
    _check(re.fullmatch(r"[0-9A-Za-z_.:%\[\]-]+", text))
    return text


def _url(*schemes: str) -> Kind:
    def read(text: str) -> str:
        _check(text.startswith(tuple(f"{scheme}://" for scheme in schemes)))
        return text

    return Kind("an address starting with " + " or ".join(f"{scheme}://" for scheme in schemes), read)


def _read_keys(text: str) -> tuple[str, ...]:
    return tuple(key for key in (part.strip() for part in text.split(",")) if key)


_FLAG = Kind("true or false", _read_flag)
_HOST = Kind("a host name or address", _read_host)
_PATH = Kind("a path", _read_path)
_PORT = _integer(1, 65_535)
_RATE_LIMIT = Kind("limits such as '100 per hour' or '10 per minute; 100 per day'", _read_rate)
_TEXT = Kind("text", str)
_KEYS = Kind("keys separated by commas", _read_keys)


def _setting(kind: Kind, default: Any, help_text: str, *, secret: bool = False) -> Any:
    metadata = {"kind": kind, "help": help_text, "secret": secret}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, repr=False)
class Config:
    """Hold the value of every setting, checked, and where each came from (``sources``)."""

    flask_host: str = _setting(_HOST, "127.0.0.1", "Address that `python app.py` and `make serve` listen on.")
    flask_port: int = _setting(_PORT, 9487, "Port of `python app.py` and `make serve`.")
    flask_debug: bool = _setting(_FLAG, False, "Show tracebacks in the browser; never on a shared machine.")
    host: str = _setting(_HOST, "127.0.0.1", "Address that the production servers listen on.")
    port: int = _setting(_PORT, 5000, "Port of the production servers.")
    workers: int = _setting(_integer(1, 64), 2, "Worker processes of the production server.")
    threads: int = _setting(_integer(1, 256), 4, "Threads per worker process.")
    trusted_proxies: int = _setting(
        _integer(0, 10), 0, "Number of own proxies in front, whose X-Forwarded-For is believed."
    )
    data_dir: Path = _setting(_PATH, Path("data"), "Folder of images, results and cached embeddings.")
    queue_size: int = _setting(
        _integer(0, 1000), 8, "Segmentations that may wait per worker; more are told to come back later."
    )
    quota_mb: int = _setting(
        _integer(0, 10_000_000), 0, "Most that one key may keep in the data folder, in MiB; 0 is no limit."
    )
    retention_days: float = _setting(
        _number(0, 36_500), 0.0, "Images unused for so many days are deleted; 0 keeps them."
    )
    max_upload_mb: int = _setting(_integer(1, 10_000), 100, "Largest file accepted, in MiB.")
    max_image_megapixels: float = _setting(
        _number(0.001, 10_000), 200.0, "Largest image accepted, in million pixels per page."
    )
    max_pages: int = _setting(_integer(1, 100_000), 1000, "Most pages accepted in one file.")
    device: str = _setting(_choice("auto", "cpu", "cuda"), "auto", "Where the networks run.")
    runtime: str = _setting(
        _choice("auto", "torch", "openvino"),
        "auto",
        "What runs the networks on a processor; auto is openvino where it is installed, else torch.",
    )
    omp_num_threads: int = _setting(
        _integer(0, 1024), 0, "Processor threads per worker for the networks; 0 shares the cores evenly."
    )
    sam_model_path: Path | None = _setting(
        _PATH, None, "MobileSAM weights; without it model/mobile_sam.pt is looked for."
    )
    droplet_model_path: Path | None = _setting(
        _PATH, None, "DropletNet weights; without it those that come with the product."
    )
    model_mirror_url: str | None = _setting(
        _url("https", "http", "file"), None, "Where `sam-droplet model fetch` looks first."
    )
    embedding_cache_mb: int = _setting(
        _integer(0, 10_000_000), 2048, "Disk for cached embeddings, shared by all workers, in MiB."
    )
    embedding_memory_mb: int = _setting(
        _integer(0, 1_000_000), 512, "Memory for cached embeddings per worker, in MiB."
    )
    api_keys: tuple[str, ...] = _setting(
        _KEYS, (), "Keys that may use the service; without any it is open.", secret=True
    )
    admin_key: str | None = _setting(_TEXT, None, "Key of the administrator.", secret=True)
    secret_key: str | None = _setting(
        _TEXT,
        None,
        "Signs browser sessions; without it one is made and kept in the data folder.",
        secret=True,
    )
    allow_public_without_keys: bool = _setting(
        _FLAG, False, "Start on a public address although no key is set."
    )
    rate_limit_default: str = _setting(
        _RATE_LIMIT,
        "100 per hour",
        "Requests of client scripts (`/segment_file` and its like) allowed per caller; "
        "pages and `/api` are not counted.",
    )
    rate_limit_segment: str = _setting(
        _RATE_LIMIT, "10 per minute", "Segmentations among the requests of client scripts allowed per caller."
    )
    redis_url: str | None = _setting(
        _url("redis", "rediss", "unix"), None, "Redis that counts requests for all workers.", secret=True
    )
    log_level: str = _setting(
        _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO", "Least severity that is logged."
    )
    log_file: Path | None = _setting(_PATH, None, "File to log to; without it standard error.")

    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @property
    def max_upload_bytes(self) -> int:
        """Upload limit in bytes."""
        return self.max_upload_mb << 20

    @property
    def max_image_pixels(self) -> int:
        """Image limit in pixels of one page."""
        return int(self.max_image_megapixels * 1_000_000)

    def __repr__(self) -> str:
        """Show every value, with secrets masked."""
        values = ", ".join(f"{s.name.lower()}={_shown(s, self)}" for s in SETTINGS)
        return f"Config({values})"


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(f.name.upper(), f.metadata["kind"], f.default, f.metadata["help"], f.metadata["secret"])
    for f in fields(Config)
    if f.default is not MISSING
)


def load_config(
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    env_file: Path | None = None,
) -> Config:
    """Read every setting: an override wins over the environment, that over .env, that over the default.

    environ: stands in for the process environment; .env is then read only where ``env_file`` names it,
        and otherwise from the current folder.
    overrides: by setting name in any case; None and empty values count as not given, at every level.
    Raises ConfigError, one sentence, for a wrong value, an unknown override or an unreadable .env.
    """
    if environ is None:
        environ = os.environ
        env_file = env_file or Path.cwd() / ".env"
    given = _named(overrides or {})
    levels = (("override", given), ("environment", environ), (".env", _read_env_file(env_file)))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        source, text = _first_given(setting.name, levels)
        sources[setting.name] = source
        values[setting.name.lower()] = setting.default if text is None else _read(setting, text, source)
    return Config(**values, sources=MappingProxyType(sources))


def describe(config: Config) -> list[SettingRow]:
    """List every setting with its value, source and help; secrets are masked."""
    return [
        SettingRow(s.name, _shown(s, config), config.sources.get(s.name, "default"), s.help) for s in SETTINGS
    ]


def _first_given(name: str, levels: tuple[tuple[str, Mapping[str, str]], ...]) -> tuple[str, str | None]:
    for source, level in levels:
        # Compose files and env.example leave NAME= behind for settings that nobody set.
        text = (level.get(name) or "").strip()
        if text:
            return source, text
    return "default", None


def _read(setting: Setting, text: str, source: str) -> Any:
    try:
        return setting.kind.read(text)
    except (ValueError, OverflowError, RuntimeError) as error:
        came = "not (value hidden: it is a secret)" if setting.secret else repr(text)
        raise ConfigError(
            f"{setting.name} (from {source}) must be {setting.kind.expected}, but it is {came}."
        ) from error


def _named(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Turn overrides into the text that the environment would hold, so that all meet the same checks."""
    known = {setting.name for setting in SETTINGS}
    given: dict[str, str] = {}
    for name, value in overrides.items():
        if name.upper() not in known:
            raise ConfigError(
                f"{name} must be the name of a setting, but there is none; `sam-droplet settings` lists them."
            )
        given[name.upper()] = _as_text(value)
    return given


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    return str(value)


def _read_env_file(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        # No interpolation: a "$" in a key stays what it is.
        parsed = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} must be a readable text file of NAME=value lines in UTF-8: {error}."
        ) from error
    return {name: value for name, value in parsed.items() if value is not None}


def _shown(setting: Setting, config: Config) -> str:
    value = getattr(config, setting.name.lower())
    if value is None or value == ():
        return ""
    if setting.secret:
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
