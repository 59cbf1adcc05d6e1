"""Where a run writes, what it keeps, and how it reports; what it computes is in the request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from coterie.verbs.options.declare import Option, Options


# Groups of one concern each; the three classes at the end are what verbs take.
@dataclass(frozen=True, kw_only=True)
class Report(Options):
    """How a command reports."""

    json: Annotated[
        bool, Option("--json", "", "Print the report as JSON on stdout; progress on stderr.")
    ] = False
    verbose: Annotated[
        bool, Option("--verbose", "", "Say more of what is done and why, on stderr.", short="-v")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Stored(Options):
    """Where observations are kept."""

    store: Annotated[
        Path | None,
        Option(
            "--store",
            "FILE",
            "SQLite file of observations; default: $COTERIE_STORE, or the user's cache folder.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options that stand in a file."""

    config: Annotated[
        Path | None,
        Option(
            "--config",
            "FILE",
            "Options from a YAML or JSON file; the coterie.json of a run asks for the same again. "
            "What is typed has the last word.",
        ),
    ] = None


# No default for the folder: nothing is written where nobody said.
@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options):
    """Where a checkpoint is written."""

    output: Annotated[Path, Option("--output", "DIR", "Folder for the checkpoint.", short="-o")]
    overwrite: Annotated[
        bool, Option("--overwrite", "", "Replace DIR if it is there and not empty.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class DryRun(Options):
    """Whether the work is stated and not done."""

    dry_run: Annotated[
        bool,
        Option("--dry-run", "", "State coalitions, work, memory, disk and time, and stop."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class LossLimit(Options):
    """How much a script lets a cut cost."""

    max_loss: Annotated[
        float | None,
        Option(
            "--max-loss",
            "NATS",
            "Exit with 1 where held-out loss rises by more, nats per token; DIR stays.",
            above=0,
        ),
    ] = None


# From here on: combinations of the groups above, without fields of their own.
@dataclass(frozen=True, kw_only=True)
class StoredRun(Report, Config, Stored):
    """A run that keeps what it observes, and writes nothing else."""


@dataclass(frozen=True, kw_only=True)
class ValuesRun(StoredRun, DryRun):
    """The same, or the work is stated; and where the report is kept."""

    output: Annotated[
        Path | None,
        Option(
            "--output",
            "FILE",
            "Also keep the report here, as JSON: `coterie report FILE` shows it as a page.",
            short="-o",
            written=True,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CheckpointRun(Report, Config, CheckpointOptions):
    """A run that writes a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class AfterRun(Report, Config, Stored, CheckpointOptions):
    """A run that makes a checkpoint of another one; the store says where the full model lies."""


@dataclass(frozen=True, kw_only=True)
class HealRun(AfterRun, DryRun):
    """The same, or the work is stated."""

    HELP: ClassVar = {"dry_run": "State steps, tokens, time, memory and disk, and stop."}


# The order of the bases is the order of the options in `--help`, last to first.
@dataclass(frozen=True, kw_only=True)
class SearchRun(Report, Config, DryRun, Stored, CheckpointOptions):
    """A run that observes coalitions and writes a checkpoint, or states the work."""


@dataclass(frozen=True, kw_only=True)
class PruneRun(SearchRun, LossLimit):
    """The same, and how much the checkpoint may lose."""
