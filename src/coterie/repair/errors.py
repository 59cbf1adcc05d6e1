"""The one exception of this folder."""

from coterie.errors import UserError


class RepairError(UserError):
    """A checkpoint that cannot be repaired so; the message says why and what to do, in one line."""
