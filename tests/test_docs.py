"""What the pages of `docs/` promise of themselves."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"


def script(path):
    """A Python file that is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_log_is_newest_first():
    page = (DOCS / "log.md").read_text(encoding="utf-8")
    dates = re.findall(r"(?m)^## (\d{4}-\d\d-\d\d) ", page)
    assert len(dates) == page.count("\n## ") and dates == sorted(dates, reverse=True)


def pages(nav):
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages(value) if isinstance(value, list) else [value]


def test_every_page_of_the_site_is_there_and_leads_to_pages_that_are():
    site = yaml.safe_load((HOME / "mkdocs.yml").read_text(encoding="utf-8"))
    made = {"reference/commands.md", "reference/python.md"}
    for page in pages(site["nav"]):
        assert page in made or (DOCS / page).is_file(), page
    for page in DOCS.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            assert target.is_file() or str(target.relative_to(DOCS)) in made, (page.name, link)
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)[)#]", readme):
        assert (HOME / link).exists(), link


def test_the_reference_has_every_command_and_every_public_name():
    import coterie

    site = script(HOME / "tools" / "site.py")
    told = site.commands()
    for name in ("prune", "values", "runs", "evaluate"):
        assert f"## {name}\n" in told
    assert "--as-judged" in told and "--max-loss" in told
    named = site.python()
    assert all(f".{name}\n" in named for name in coterie.__all__)


def test_the_picture_is_what_the_command_prints_today():
    picture = script(DOCS / "picture.py")
    if not picture.KEPT.is_file():
        pytest.skip("no record is kept for the picture")
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.drawn(picture.kept())
