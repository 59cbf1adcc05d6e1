"""`cut`: write the checkpoint without some named layers, shard by shard, and check it.

It does not report a finished run again, as other verbs do (`FinishedRun`): it searches and trains
nothing, so a run that is recognised would spare a user little but the writing that was asked for.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.engine.memory import free_main_memory
from coterie.errors import CutError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.lists import passthrough_yaml, read_list
from coterie.models.cutting.verify import Verification, check_filled, expect, probe_tokens, verify
from coterie.models.cutting.write import Written, write_cut
from coterie.models.families.registry import locks_of
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model
from coterie.models.loaded.stack import find_stack
from coterie.models.runtimes.serving import check_served, serving_of
from coterie.models.runtimes.verdicts import layer_verdicts
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.record import CutRecord
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.inspect import complement
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.reads import model_read, reads_of, resolved
from coterie.verbs.outputs.records import write_record
from coterie.verbs.outputs.rehearsal import rehearse, weights_take
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.record import cut_part, named_part
from coterie.verbs.shared.serving import serving_parts

if TYPE_CHECKING:
    from coterie.verbs.cut_judged import Judged


@dataclass(frozen=True)
class Cut:
    """What was cut and written.

    Attributes:
        layers: The layers that went, 0-based.
        kept: The layers that stay.
        written: The files.
        verification: How near the reloaded checkpoint is to the masked model; None if the model
            does not fit into memory twice over or is not to be loaded, so that only its structure
            was checked.
        repaired: What a repair gave back; None where none was asked for.
        judged: What the cut costs on held-out text; None where none was named.
    """

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    written: Written
    verification: Verification | None
    repaired: AfterPart | None = None
    judged: "Judged | None" = None

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON."""
        plain = asdict(replace(self, repaired=None, judged=None))
        del plain["repaired"], plain["judged"]
        if self.judged is not None:
            plain["verdict"] = self.judged.verdict.as_json()
        return plain if self.repaired is None else {**plain, "repaired": self.repaired.as_json()}


@public
def cut(
    request: CutRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Cut:
    """Cut named layers out of a checkpoint, shard by shard, and check what was written.

    >>> from coterie import CutRequest, cut
    >>> done = cut(CutRequest("reference", layers=(3, 7, 8)), output=folder / "out")
    >>> len(done.kept)
    13

    Args:
        request: Which layers, of which model.
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        progress: Told how many bytes are written, of how many.

    Raises:
        UserError: The cut cannot be made; nothing was written.
        VerificationError: What was written is not the masked model; nothing is left of it.
    """
    request.check()
    output, progress = Path(output), progress or NoProgress()
    if request.repairs:
        # Imported when asked for: a cut alone needs neither texts nor least squares.
        from coterie.verbs.cut_and_repair import cut_and_repair

        return cut_and_repair(request, output=output, overwrite=overwrite, progress=progress)
    return _cut_alone(request, OutputFolder(output, request, overwrite=overwrite), progress)


def _cut_alone(request: CutRequest, place: OutputFolder, progress: Progress) -> Cut:
    place.check()
    trust = request.trust_remote_code
    source = resolve(request.model, request.revision, trust_remote_code=trust)
    # The names of the tensors on disk tell the layers: no weight is loaded to count them.
    place.add(source.folder)
    place.check()
    mergekit = _mergekit_file(request, source, place)
    n_players = find_disk_stack(source.entries, source.config()).n_players
    gone = _named_layers(request, n_players)
    kept, config = complement(gone, n_players), source.config()
    locked = tuple(locks_of(config, n_players))
    check_served(serving_of(config, request.serve, n_players), kept, locked)
    # Read before anything is written: a text that cannot be read stops the run here.
    judge = _judge(request, source, progress)

    needed = weights_take(source, len(kept) / n_players)
    rehearse(place, source, request.as_json(), needed=needed)

    def step(done: int, total: int) -> None:
        progress.step(f"writing {place.path.name}", done, total)

    with place.written() as folder:
        written = write_cut(source, kept, folder, progress=step)
        done = Cut(gone, kept, written, _check(source, kept, folder, stream=request.stream))
        if judge is not None:
            done = replace(done, judged=judge(Source(place.path.name, folder, None, trust)))
        # The record names the layers themselves: the list file may change or be lost.
        asked = replace(request, model=source.name, layers=gone, list_file=None, mergekit=None)
        record = _record(source, done, asked.command(place.path))
        write_record(folder, record)
        write_page(folder, record)
    if mergekit is not None:
        mergekit.write(passthrough_yaml(request.model, done.kept, "bfloat16"))
    return done


def _judge(
    request: CutRequest, source: Source, progress: Progress
) -> "Callable[[Source], Judged] | None":
    """What judges the cut checkpoint; None where no text is named."""
    if request.held_out is None:
        return None
    # Imported when asked for: a cut alone needs no texts.
    from coterie.verbs.cut_judged import judge_cut, read_to_judge

    texts = read_to_judge(request.held_out, source)
    return lambda cut: judge_cut(request, source, cut, texts=texts, progress=progress)


def _mergekit_file(request: CutRequest, source: Source, to: OutputFolder) -> OutputFile | None:
    """The file for mergekit, if one is asked for; refused where it is read, or is the output."""
    if request.mergekit is None:
        return None
    reads = [*reads_of(request), model_read(source.folder)]
    file = OutputFile(request.mergekit, "--mergekit", reads)
    file.check()
    if resolved(request.mergekit, "--mergekit") == to.place:
        raise CutError(f"--mergekit {request.mergekit} is the folder of --output: name a file")
    return file


def _named_layers(request: CutRequest, n_players: int) -> tuple[int, ...]:
    """The layers to cut, named one by one or in a file."""
    listed = request.list_file
    gone = request.layers if listed is None else read_list(listed, n_players)
    if not gone:
        raise CutError("no layer to cut is named: give --layers 3,7-9 or --list FILE")
    return gone


def _record(source: Source, done: Cut, command: str) -> CutRecord:
    """What `coterie.json` says of a cut nobody searched for: of which model, and which layers."""
    stack = find_disk_stack(source.entries, source.config())
    architecture = (source.config().architectures or ["unknown"])[0]
    coalition = np.isin(np.arange(stack.n_players), done.kept)
    return CutRecord(
        kind="cut",
        command=command,
        model=named_part(source, architecture, stack.path, stack.n_players, "layer"),
        cut=cut_part(coalition, None, "layer"),
        verification=None if done.verification is None else asdict(done.verification),
        serving=serving_parts(layer_verdicts(source.config(), done.kept, stack.n_players)),
        versions=versions(),
        verdict=None if done.judged is None else done.judged.verdict,
        held_out=None if done.judged is None else done.judged.held_out,
    )


def _check(
    source: Source, kept: tuple[int, ...], folder: Path, *, stream: bool
) -> Verification | None:
    n_bytes = sum(entry.n_bytes for entry in source.entries)
    # Better not compared, which the record then says, than out of memory.
    if stream or 2 * n_bytes > free_main_memory():
        check_filled(folder, source)
        return None
    model = load_model(source, dtype=None, device="cpu")
    stack = find_stack(model)
    coalition = [player in kept for player in range(stack.n_players)]
    expected = expect(model, stack, coalition, probe_tokens(source))
    # The full model leaves memory before the written one is loaded.
    del model, stack
    return verify(expected, folder, trust_remote_code=source.trust_remote_code)
