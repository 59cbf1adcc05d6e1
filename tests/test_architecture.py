"""ARCHITECTURE.md draws the house as it stands: every folder, with the sentence that opens it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_is_drawn_and_nothing_else_is():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = page[page.index("<!-- tree -->") : page.index("<!-- /tree -->")]
    drawn, folders = {}, []
    for line in tree.splitlines()[3:]:
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        name, _, meaning = line.strip().partition(" ")
        folders = [*folders[:depth], name.rstrip("/")]
        drawn["/".join(folders)] = meaning.strip()
    package = ROOT / "src" / "coterie"
    built = {}
    for path in package.rglob("__init__.py"):
        folder = str(path.parent.relative_to(package))
        if folder != ".":
            built[folder] = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
    assert drawn == built
