"""What repair, healing and quantizing did, as a section of a model card."""

from coterie.report.schema.after_cut import AfterPart
from coterie.report.terminal.after_cut import _rows


def card_section(part: AfterPart) -> str:
    """The same as a section of a model card, Markdown."""
    title = {"heal": "Healing", "quantize": "Quantization", "repair": "Repair"}[part.what]
    # The same rows as on the terminal: two places that say it would drift apart.
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(part))
    return f"\n## {title}\n\n`{part.command}`\n\n| | |\n|---|---|\n{rows}\n"
