"""`cut`: write the checkpoint without some named layers, shard by shard, and check it."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from coterie.engine.memory import free_main_memory
from coterie.errors import CutError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.lists import read_list
from coterie.models.cutting.verify import Verification, expect, probe_tokens, verify
from coterie.models.cutting.write import Written, write_cut
from coterie.models.files.shards import Progress
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.report.schema.record import CutRecord
from coterie.verbs.inspect import complement
from coterie.verbs.shared.output import check_output, write_record, written_aside
from coterie.verbs.shared.provenance import bare, versions
from coterie.verbs.shared.record import cut_part, named_part


@dataclass(frozen=True)
class Cut:
    """What was cut and written.

    Attributes:
        layers: The layers that went, 0-based.
        kept: The layers that stay.
        written: The files.
        verification: How near the reloaded checkpoint is to the masked model; None if the model
            does not fit into memory twice over, so that only its structure was checked.
    """

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    written: Written
    verification: Verification | None

    def as_record(self) -> dict[str, object]:
        """The same as plain JSON."""
        return asdict(self)


def cut(
    model: str,
    layers: tuple[int, ...] | Path,
    *,
    output: Path | str,
    overwrite: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Cut:
    """Cut named layers out of a checkpoint.

    Args:
        model: Hub id, local folder or `reference`.
        layers: The layers to CUT, or a file that lists them (see `coterie.models.cutting.lists`).
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Allow the model's own Python files to run.
        progress: Called with bytes written and bytes in all.

    Raises:
        UserError: The cut cannot be made; nothing was written.
        VerificationError: What was written is not the masked model; nothing is left of it.
    """
    output = Path(output)
    check_output(output, overwrite=overwrite)
    source = resolve(model, revision, trust_remote_code=trust_remote_code)
    n_players = find_disk_stack(source.entries, source.config()).n_players
    gone = read_list(layers, n_players) if isinstance(layers, Path) else tuple(layers)
    if not gone:
        raise CutError("no layer to cut is named: give --layers 3,7-9 or --list FILE")
    kept = complement(gone, n_players)
    with written_aside(output) as folder:
        written = write_cut(source, kept, folder, progress=progress)
        done = Cut(gone, kept, written, _check(source, kept, folder))
        write_record(folder, _record(source, done, output, revision))
    return done


def _record(source: Source, done: Cut, output: Path, revision: str | None) -> CutRecord:
    """What `coterie.json` says of a cut nobody searched for: of which model, and which layers."""
    stack = find_disk_stack(source.entries, source.config())
    architecture = (source.config().architectures or ["unknown"])[0]
    coalition = np.isin(np.arange(stack.n_players), done.kept)
    layers = ",".join(map(str, done.layers))
    words = ["coterie", "cut", bare(source.name) or "", "--layers", layers]
    words += [] if revision is None else ["--revision", revision]
    words += ["--trust-remote-code"] if source.trust_remote_code else []
    words += ["--output", output.name]
    return CutRecord(
        kind="cut",
        command=shlex.join(words),
        model=named_part(source, architecture, stack.path, stack.n_players, "layer"),
        cut=cut_part(coalition, None, "layer"),
        verification=None if done.verification is None else asdict(done.verification),
        versions=versions(),
    )


def _check(source: Source, kept: tuple[int, ...], folder: Path) -> Verification | None:
    n_bytes = sum(entry.n_bytes for entry in source.entries)
    if 2 * n_bytes > free_main_memory():
        return None
    model = load_model(source, dtype=None, device="cpu")
    stack = find_stack(model)
    coalition = [player in kept for player in range(stack.n_players)]
    expected = expect(model, stack, coalition, probe_tokens(source))
    del model, stack
    return verify(expected, folder, trust_remote_code=source.trust_remote_code)
