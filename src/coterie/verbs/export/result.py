"""What an export found, wrote and leaves to be run."""

from dataclasses import asdict, dataclass

from coterie.errors import UserError


class ExportError(UserError):
    """A checkpoint that a runtime cannot take, with the reason."""


@dataclass(frozen=True)
class Export:
    """What was checked, what was written, and what is left to run.

    Attributes:
        to: One of `coterie.verbs.checkpoint_requests.EXPORTS`.
        checks: What was found in order, a line each.
        text: What was written or is to be copied, such as a mergekit config; None where there is
            no such text.
        command: What to run where the runtime is installed.
    """

    to: str
    checks: tuple[str, ...]
    text: str | None
    command: str

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON."""
        return asdict(self)
