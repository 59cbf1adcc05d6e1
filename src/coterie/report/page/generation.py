"""What a smaller model writes beside the full one, side by side."""

from coterie.report.page.elements import Markup, section, table, tag
from coterie.report.schema.generation import GenerationPart
from coterie.report.wording.generation import generation_rows, how_asked

SHOWN = 220
"""Letters of a text that the first screen has room for; the section has all of it."""


def generation(part: GenerationPart | None, first: str = "full model") -> Markup:
    """The measures of both, and a few continuations; nothing where nothing was written.

    Args:
        part: What was written.
        first: What the one is called that the smaller is held against.
    """
    if part is None:
        return Markup()
    rows = generation_rows(part, first)
    measures = table(("measure", first, "this one"), rows, "What both write")
    told = [(_text(one.prompt), _text(one.full), _text(one.smaller)) for one in part.samples]
    head = ("after these words", f"the {first} writes", "this one writes")
    samples = table(head, told, "Continuations, side by side")
    return section("What it writes", measures, samples, note=f"{how_asked(part)}.")


def sample(part: GenerationPart | None) -> Markup | None:
    """How both go on after one prompt, for the first screen; the section has the others.

    Args:
        part: What was written.
    """
    if part is None or not part.samples:
        return None
    shown = part.samples[0]
    both = (("the full model goes on", shown.full), ("this one goes on", shown.smaller))
    return tag(
        "div",
        tag("p", tag("span", "After"), tag("q", _ending(shown.prompt))),
        [tag("p", tag("span", name), _beginning(text)) for name, text in both],
        class_="sample",
    )


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN].rstrip() + " …"


def _ending(text: str) -> str:
    return text if len(text) <= SHOWN else "… " + text[-SHOWN:].lstrip()


def _text(text: str) -> Markup:
    return tag("span", text)
