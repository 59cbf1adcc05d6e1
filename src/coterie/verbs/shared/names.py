"""Models side by side under names that tell them apart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coterie.models.files.sources import Source


def told_apart(sources: Sequence[Source], asked: Sequence[str]) -> list[Source]:
    """The models, those of equal names under as much of their folders as tells them apart.

    Args:
        sources: The models.
        asked: How each was named by the user, in the same order.
    """
    names = [source.name for source in sources]
    for depth in range(2, 1 + max((len(Path(one).parts) for one in asked), default=1)):
        doubled = {name for name in names if names.count(name) > 1}
        names = [
            "/".join(Path(one).parts[-depth:]).lstrip("/") if name in doubled else name
            for name, one in zip(names, asked, strict=True)
        ]
    # The same folder, or one reached by two ways: numbered in the order they were given.
    names = [
        f"{name} ({1 + names[:place].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return [
        source if source.name == name else replace(source, name=name)
        for source, name in zip(sources, names, strict=True)
    ]
