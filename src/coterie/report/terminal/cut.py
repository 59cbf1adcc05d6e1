"""What a cut that nobody searched for costs, on a terminal."""

from rich.console import Console

from coterie.report import words as w
from coterie.report.schema.verdict import VerdictPart
from coterie.report.terminal.generation import print_generation, print_warning


def print_judged(verdict: VerdictPart, console: Console | None = None) -> None:
    """Print the verdict in words, both perplexities, and what both models write."""
    out = console or Console(highlight=False)
    out.print(f"\n[bold]{verdict.sentence}[/bold]")
    print_warning(verdict.generation, verdict.ratio, out)
    before, after = verdict.before, verdict.after
    out.print(
        f"held-out perplexity {before.perplexity:.3f} ± {w.or_dash(before.error)} before, "
        f"{after.perplexity:.3f} ± {w.or_dash(after.error)} after (×{verdict.ratio:.3f}); KL to the"
        f" full model {w.or_dash(verdict.kl, '{:.4f}')} nats per token"
    )
    if verdict.generation is not None:
        print_generation(verdict.generation, out)
