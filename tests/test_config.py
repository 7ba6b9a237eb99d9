"""Settings: where values come from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.config import MASK, SETTINGS, Config, Setting, describe, load_config
from sam_droplet.errors import ConfigError

SECRETS = {
    "API_KEYS": "key-one-7f31,key-two-90aa",
    "ADMIN_KEY": "admin-55c2",
    "SECRET_KEY": "cookie-e03b",
    "REDIS_URL": "redis://:hunter2@localhost:6379/0",
}


def test_defaults_are_those_of_the_documentation() -> None:
    config = load_config({})
    assert (config.flask_host, config.flask_port, config.flask_debug) == ("127.0.0.1", 9487, False)
    assert (config.host, config.port, config.workers, config.threads) == ("127.0.0.1", 5000, 2, 4)
    assert config.sam_model_path is None
    assert config.droplet_model_path is None
    assert config.data_dir == Path("data")
    assert (config.max_upload_mb, config.max_image_megapixels, config.max_pages) == (100, 200, 1000)
    assert config.max_upload_bytes == 104_857_600
    assert config.max_image_pixels == 200_000_000
    assert (config.device, config.log_level, config.omp_num_threads) == ("auto", "INFO", 0)
    assert (config.rate_limit_default, config.rate_limit_segment) == ("100 per hour", "10 per minute")
    assert config.api_keys == ()
    assert config == Config()


def test_override_wins_over_environment_over_env_file_over_default(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=1001\nFLASK_PORT=1002\nWORKERS=3\n", encoding="utf-8")
    config = load_config({"FLASK_PORT": "2002", "WORKERS": "5"}, {"workers": 7}, env_file=env_file)
    assert (config.threads, config.port, config.flask_port, config.workers) == (4, 1001, 2002, 7)
    assert config.sources["THREADS"] == "default"
    assert config.sources["PORT"] == ".env"
    assert config.sources["FLASK_PORT"] == "environment"
    assert config.sources["WORKERS"] == "override"


def test_env_file_is_read_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    (tmp_path / ".env").write_text('\ufeffFLASK_HOST="0.0.0.0"\nSECRET_KEY=a${HOME}b\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASK_PORT", "8123")
    config = load_config()
    assert (config.flask_host, config.flask_port, config.secret_key) == ("0.0.0.0", 8123, "a${HOME}b")


def test_given_environment_leaves_the_env_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("FLASK_PORT=1234\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_config({}).flask_port == 9487


def test_empty_values_count_as_not_given() -> None:
    config = load_config({"FLASK_PORT": "", "API_KEYS": "  ", "LOG_FILE": ""}, {"host": None})
    assert config == Config()
    assert config.sources["FLASK_PORT"] == "default"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("FLASK_DEBUG", "Yes", True),
        ("FLASK_DEBUG", "0", False),
        ("DEVICE", "CUDA", "cuda"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("API_KEYS", " a , b,,c ", ("a", "b", "c")),
        ("SAM_MODEL_PATH", "weights/sam.pt", Path("weights/sam.pt")),
        ("MAX_IMAGE_MEGAPIXELS", "0.5", 0.5),
        ("RATE_LIMIT_DEFAULT", "5/minute; 100 per 2 hours", "5/minute; 100 per 2 hours"),
        ("HOST", "::1", "::1"),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    assert getattr(load_config({name: text}), name.lower()) == value
    assert getattr(load_config({}, {name.lower(): value}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FLASK_PORT", "eighty"),
        ("FLASK_PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "2.5"),
        ("FLASK_DEBUG", "maybe"),
        ("DEVICE", "tpu"),
        ("LOG_LEVEL", "LOUD"),
        ("MAX_IMAGE_MEGAPIXELS", "nan"),
        ("MAX_IMAGE_MEGAPIXELS", "inf"),
        ("MAX_UPLOAD_MB", "-1"),
        ("RATE_LIMIT_SEGMENT", "often"),
        ("RATE_LIMIT_DEFAULT", "10 per fortnight"),
        ("MODEL_MIRROR_URL", "ftp://example.org"),
        ("HOST", "local host"),
    ],
)
def test_wrong_value_names_setting_expectation_and_value(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({name: text})
    message = str(caught.value)
    expected = next(s.kind.expected for s in SETTINGS if s.name == name)
    assert name in message
    assert expected in message
    assert repr(text) in message
    assert "environment" in message
    assert "\n" not in message


def test_wrong_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"REDIS_URL": "hunter2@localhost"})
    assert "REDIS_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_unknown_override_is_refused() -> None:
    with pytest.raises(ConfigError, match="flask_prot"):
        load_config({}, {"flask_prot": 1})


def test_env_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"FLASK_PORT=\xff\xfe\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config({}, env_file=path)


def test_secrets_are_masked_everywhere() -> None:
    config = load_config(SECRETS)
    assert {s.name for s in SETTINGS if s.secret} == set(SECRETS)
    shown = repr(config) + str(config) + repr(describe(config))
    for text in SECRETS.values():
        for part in text.split(","):
            assert part not in shown
    rows = {row.name: row for row in describe(config)}
    assert all(rows[name].value == MASK for name in SECRETS)
    assert rows["API_KEYS"].source == "environment"
    assert {row.value for row in describe(Config()) if row.name in SECRETS} == {""}


def test_every_setting_is_described_with_help() -> None:
    rows = describe(load_config({}))
    assert [row.name for row in rows] == [setting.name for setting in SETTINGS]
    assert all(row.help.endswith(".") and row.source == "default" for row in rows)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_default_passes_its_own_check(setting: Setting) -> None:
    if setting.default not in (None, ()):
        assert setting.kind.read(str(setting.default)) == setting.default


def test_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().flask_port = 1  # type: ignore[misc]


@settings(deadline=None)
@given(st.sampled_from([s.name for s in SETTINGS]), st.text(max_size=40))
def test_any_text_gives_a_config_or_a_config_error(name: str, text: str) -> None:
    try:
        source = load_config({name: text}).sources[name]
    except ConfigError as error:
        source = "refused" if name in error.message else "refused without naming the setting"
    assert source in {"default", "environment", "refused"}
