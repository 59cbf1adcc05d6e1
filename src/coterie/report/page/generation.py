"""What a smaller model writes beside the full one, side by side."""

from coterie.report.page.elements import Markup, section, table, tag
from coterie.report.schema.generation import GenerationPart
from coterie.report.wording.generation import generation_rows, how_asked


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


def _text(text: str) -> Markup:
    return tag("span", text)
