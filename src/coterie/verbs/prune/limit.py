"""How much a checkpoint may lose, and what is too much to cut."""

from coterie.errors import LossError
from coterie.report.schema.record import Record


def check_loss(record: Record, most: float | None) -> None:
    """Refuse a finished run that loses more than allowed; its folder stays.

    Args:
        record: Of the run; a plan has no verdict and is not refused.
        most: Nats per token that held-out loss may rise by; None allows anything.

    Raises:
        LossError: it rises by more.
    """
    if most is None or record.verdict is None:
        return
    rise = record.verdict.difference.nll
    # Healed or quantized since: what is in the folder counts, against the same full model.
    if record.after:
        last = record.after[-1]
        full = record.verdict.before if last.full is None else last.full
        rise = last.after.nll - full.nll
    if not rise <= most:
        raise LossError(
            f"held-out loss rises by {rise:.4f} nats per token, and --max-loss allows {most:g}: cut"
            " less, or repair and heal what was written"
        )


def too_much(n_removed: int, n_players: int, units: str) -> str | None:
    """A warning where more than half of the players must go; None elsewhere.

    Args:
        n_removed: Players that go.
        n_players: Players of the model.
        units: What they are called.
    """
    if 2 * n_removed <= n_players:
        return None
    return (
        f"warning: {n_removed} of {n_players} {units} must go, more than half: such a model rarely"
        " predicts better than a guess"
    )
