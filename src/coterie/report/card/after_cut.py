"""What repair, healing and quantizing did, as a section of a model card."""

from coterie.report.schema.after_cut import AfterPart
from coterie.report.wording.after_cut import TITLES, after_rows


def card_section(part: AfterPart) -> str:
    """The same as a section of a model card, Markdown."""
    # The same rows as on the terminal: two places that say it would drift apart.
    rows = "\n".join(f"| {name} | {value} |" for name, value in after_rows(part))
    return f"\n## {TITLES[part.what]}\n\n`{part.command}`\n\n| | |\n|---|---|\n{rows}\n"
