"""The published design: which sizes are drawn, and how often (arXiv:2602.07804)."""

from coterie.errors import CutError

PAPER_REMOVALS = (2, 5, 8, 11, 14)  # of 32 layers: Ding et al. 2026, arXiv:2602.07804


def paper_sizes(n_players: int) -> tuple[int, ...]:
    """The published strata, made for 32 layers, scaled to ``n_players``; repeats fall together."""
    # Rounded half up, at least one: small models keep the published proportions.
    removals = [max(1, int(n_players * r / 32 + 0.5)) for r in PAPER_REMOVALS]
    return tuple(dict.fromkeys(n_players - removal for removal in removals))


def published_sizes(n_players: int, n_locked: int = 0) -> tuple[int, ...]:
    """The published strata without the sizes that locked players leave no choice at.

    Raises:
        CutError: Fewer than two players are free, so there is nothing to choose.
    """
    # A stratum that holds the locked players alone has one coalition, and no choice.
    sizes = tuple(size for size in paper_sizes(n_players) if size > n_locked)
    if not sizes or n_players - n_locked < 2:
        raise CutError(
            f"{n_players} layers with {n_locked} locked leave fewer than two to choose from"
        )
    return sizes


def paper_draws(n_players: int) -> int:
    """The published number of draws, 8,000 for 32 layers, scaled to ``n_players``."""
    return 8_000 * n_players // 32
