"""Examples of docstrings as code on the site: an extension of griffe (`mkdocs.yml` names it)."""

import re
from typing import Any

from griffe import Extension, Object


class FencedExamples(Extension):
    """Puts every run of `>>>` lines with what it prints between fences."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of one object, before its sections are read.

        Args:
            obj: A module, class, function or attribute.
            kwargs: What else griffe tells.
        """
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring whose examples stand between fences.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nArgs: none"))
    Adds.
    <BLANKLINE>
    ```python
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    Args: none
    """
    return re.sub(
        r"(?m)^>>> (?:.+\n?)+", lambda found: f"```python\n{found[0].rstrip()}\n```\n", text
    )
