"""Pages of the site that are made from the code: a hook of mkdocs (`mkdocs.yml` names it)."""

from typing import TYPE_CHECKING

import typer

import coterie
from coterie.cli import make_app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the reference of commands and of the Python interface.

    Args:
        files: What the site is made of so far.
        config: Of the site.
    """
    from mkdocs.structure.files import File

    for path, text in (("commands", commands()), ("python", python())):
        files.append(File.generated(config, f"reference/{path}.md", content=text))
    return files


def commands() -> str:
    """Every command with its help, as `coterie COMMAND --help` prints it."""
    parts = ["# Commands", "", "What `coterie COMMAND --help` prints, made from the same code.", ""]
    group = typer.main.get_command(make_app())
    with group.make_context("coterie", [], resilient_parsing=True) as whole:
        for name in group.list_commands(whole):  # type: ignore[attr-defined]
            command = group.get_command(whole, name)  # type: ignore[attr-defined]
            with command.make_context(name, [], parent=whole, resilient_parsing=True) as context:
                told = command.get_help(context)
            parts += [f"## {name}", "", "```text", told, "```", ""]
    return "\n".join(parts)


def python() -> str:
    """Every public name, its docstring read by mkdocstrings."""
    verbs = [name for name in coterie.__all__ if name.islower()]
    requests = [name for name in coterie.__all__ if not name.islower()]
    homes = vars(coterie)["_HOME"]
    parts = ["# Python", "", "Every verb takes a request, and every request checks itself.", ""]
    for name in [*verbs, *requests]:
        parts += [f"::: {homes[name]}.{name}", ""]
    return "\n".join(parts)
