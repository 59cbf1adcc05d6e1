"""What the tests import is what `pip install coterie[dev]` installs."""

import ast
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OURS = {"coterie", "tests", "tools", "benchmarks"}


def installed_by(requirements):
    """Names of all distributions that these requirements bring, theirs included."""
    found, due = set(), [Requirement(one) for one in requirements]
    while due:
        wanted = due.pop()
        for extra in ("", *wanted.extras):
            here = (canonicalize_name(wanted.name), extra)
            if here in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            found.add(here)
            asked = [Requirement(one) for one in distribution(wanted.name).requires or ()]
            due += [one for one in asked if not one.marker or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def imported_first(file):
    """Top-level packages that a module cannot be read without."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_every_test_can_be_read_where_only_the_declared_packages_are():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    try:
        installed = installed_by(declared)
    except ModuleNotFoundError as missing:
        pytest.skip(f"not all of `dev` is installed: {missing}")
    files = sorted((ROOT / "tests").rglob("*.py"))
    modules = {module for file in files for module in imported_first(file)}
    providers = packages_distributions()
    strangers = {
        module
        for module in modules - OURS - set(sys.stdlib_module_names)
        if not installed & {canonicalize_name(one) for one in providers.get(module, ())}
    }
    assert strangers == set()
