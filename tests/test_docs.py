"""The documentation names what there is."""

import re
from pathlib import Path

import pytest

from sam_droplet import __version__
from sam_droplet.config import SETTINGS

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
    "page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.name
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_changelog_starts_with_this_version_or_the_next():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first.group(1) in ("Unreleased", __version__)
