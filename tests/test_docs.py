"""The documentation names what there is."""

import re
from pathlib import Path

import pytest

from sam_droplet import __version__
from sam_droplet.config import SETTINGS
from sam_droplet.errors import ConfigError, SamDropletError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_every_setting_is_documented_with_its_meaning(setting):
    line = next(
        li for li in (ROOT / "docs/settings.md").read_text().splitlines() if f"`{setting.name}`" in li
    )
    assert setting.help in line
    assert setting.kind.expected in line


def test_no_setting_is_documented_that_does_not_exist():
    named = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs/settings.md").read_text(), re.M))
    assert named == {setting.name for setting in SETTINGS}


@pytest.mark.parametrize(
    "page",
    [
        p
        for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "model/*.md")
        for p in sorted(ROOT.glob(pattern))
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_error_of_the_api_is_documented():
    kinds, waiting = set(), [SamDropletError]
    while waiting:
        kind = waiting.pop()
        kinds.add((kind.status, kind.code))
        waiting += kind.__subclasses__()
    kinds.discard((ConfigError.status, ConfigError.code))  # at the start only
    page = (ROOT / "docs/api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", page, re.MULTILINE)
    documented = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert documented - {(405, "method_not_allowed")} == kinds


def test_the_readme_leads_to_every_page_of_the_documentation():
    readme = (ROOT / "README.md").read_text()
    assert [p.name for p in ROOT.glob("docs/*.md") if f"(docs/{p.name})" not in readme] == []


def test_the_readme_and_the_model_card_know_how_large_the_weights_are():
    size = f"{(ROOT / 'model/droplet_net.safetensors').stat().st_size / 1e6:.1f} MB"
    assert f"weights | in `model/`, {size}" in (ROOT / "README.md").read_text()
    assert f"fp16, {size}" in (ROOT / "model/README.md").read_text()


def test_the_changelog_starts_with_this_version_or_the_next():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first.group(1) in ("Unreleased", __version__)
