"""ARCHITECTURE.md draws the house as it stands."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_is_drawn_and_nothing_else_is():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = page[page.index("<!-- tree -->") : page.index("<!-- /tree -->")]
    drawn, folders = set(), []
    for line in tree.splitlines()[3:]:
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        name = line.split()[0]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
        else:
            drawn.add("/".join([*folders, name]))
    package = ROOT / "src" / "coterie"
    built = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert drawn == {name for name in built if "/__init__" not in name}
