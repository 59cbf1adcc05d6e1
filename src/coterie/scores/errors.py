"""What can be wrong with a task."""

from coterie.errors import UserError


class TaskError(UserError):
    """A task that is not known, cannot be read, or cannot be scored."""
