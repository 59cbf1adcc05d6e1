"""Measure how readable the package is: one table of counts, for one folder or for two side by side.

python tools/house.py                    the package of this checkout
python tools/house.py OLD/src/coterie    that one beside it: before and after
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "coterie"

LONG, MANY, SEVERAL, POSITIONAL = 50, 6, 3, 5
"""Lines of a long function; arguments of one with many; arguments from which each is described;
most arguments that a call may give by position."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def arguments(function: Function) -> list[str]:
    """Names of a function's arguments, without ``self`` and ``cls``."""
    spelt = function.args
    every = [*spelt.posonlyargs, *spelt.args, *spelt.kwonlyargs]
    every += [one for one in (spelt.vararg, spelt.kwarg) if one is not None]
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def public(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    """Functions and classes of a module whose names do not begin with an underscore."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Public functions of a module, and public methods of its public classes."""
    for node in public(tree):
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield inner
        else:
            yield node


def described(function: Function) -> bool:
    """Whether the docstring has a line of its own for every argument."""
    text = ast.get_docstring(function) or ""
    return all(re.search(rf"^\s+\*{{0,2}}{name}:", text, re.M) for name in arguments(function))


def comments(source: str) -> int:
    """Comments of a module, linters' marks left out."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(
        kind == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|pragma)", text)
        for kind, text, *_ in tokens
    )


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    strings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return sum(
        n not in strings and bool(line.strip()) and not line.lstrip().startswith("#")
        for n, line in lines
    )


def examples(tree: ast.Module) -> int:
    """Docstrings of a module that hold an example to run (``>>>``)."""
    nodes = [tree, *ast.walk(tree)]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) or "" for node in nodes[1:] if isinstance(node, kinds)]
    return sum(">>> " in text for text in texts)


def measure(package: Path) -> dict[str, str]:
    """Every count of a package, by what it is called in the table."""
    files = sorted(package.rglob("*.py"))
    sources = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, Function)]
    named = Counter(node.name for tree in trees.values() for node in public(tree))
    several = [
        function
        for tree in trees.values()
        for function in public_functions(tree)
        if len(arguments(function)) >= SEVERAL
    ]
    calls = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    lines = sum(source.count("\n") for source in sources.values())
    modules = Counter(path.parent for path in files if path.name != "__init__.py")
    noted = sum(comments(source) for source in sources.values())
    return {
        "files in the fullest folder": str(max(modules.values())),
        "public names defined twice": str(sum(n > 1 and k != "command" for k, n in named.items())),
        "casts": str(calls.count("cast")),
        f"functions over {LONG} lines": str(
            sum((f.end_lineno or 0) - f.lineno + 1 > LONG for f in functions)
        ),
        f"functions with more than {MANY} arguments": str(
            sum(len(arguments(f)) > MANY for f in functions)
        ),
        f"calls with more than {POSITIONAL} positional arguments": str(
            sum(isinstance(n, ast.Call) and len(n.args) > POSITIONAL for n in nodes)
        ),
        "comments per 100 lines": f"{100 * noted / lines:.1f}",
        f"public functions of {SEVERAL} or more arguments, every one described": (
            f"{sum(map(described, several))} of {len(several)}"
        ),
        "docstrings with an example that is run": str(sum(map(examples, trees.values()))),
        "lines of the package": f"{lines:,}",
        "of these, lines of code": f"{sum(map(code_lines, sources.values())):,}",
    }


def main() -> None:
    """Print the table."""
    packages = [*map(Path, sys.argv[1:]), PACKAGE]
    columns = [measure(package) for package in packages]
    for name in columns[0]:
        print(f"{name:<68}" + "".join(f"{column[name]:>14}" for column in columns))


if __name__ == "__main__":
    main()
