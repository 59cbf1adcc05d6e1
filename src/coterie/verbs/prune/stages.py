"""`prune --repair … --heal … --quantize …`: a cut and what follows it, one run with one report.

Every stage is one of the verbs, with a folder of its own beside the output, so that a run that was
stopped goes on from its last whole stage. Quantized first, the game is played on the quantized
model; a healing needs weights that move, so it then takes the same layers out of the plain model
and quantizes again what was healed.
"""

import shutil
from hashlib import sha256
from pathlib import Path

from coterie.errors import StudyMismatch, UserError
from coterie.plain import Json
from coterie.repair.streamed import check_streamed_repair
from coterie.report.schema.record import Record
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.texts import healing_texts
from coterie.verbs.outputs.exchange import beside
from coterie.verbs.outputs.finished import FinishedRun
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import read_record, write_record
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.run import remember_run
from coterie.verbs.prune.staged_run import StagedRun
from coterie.verbs.search.task_utilities import items_asked, tasks_of
from coterie.verbs.shared.prepared import Prepared, prepare
from coterie.verbs.shared.provenance import bare
from coterie.verbs.shared.result import Result

STAGES = "stages"
"""The folder of the stages, beside the output."""


def prune_and_after(request: PruneRequest, after: After, to: Destination) -> Result:
    """Cut, heal and quantize in one run; the record of the cut, with the parts that followed.

    A run that has finished in the same folder with the same request, weights and texts is reported
    again and nothing is done.

    Args:
        request: What is cut.
        after: What follows the cut.
        to: Where the last checkpoint goes.

    Raises:
        UserError: something asked cannot be done, in one line.
        VerificationError: some stage wrote what it did not measure.
    """
    request.check()
    after.check(request)
    place = place_of(request, after, to)
    before = FinishedRun(place, ended=_ended)
    # What decides the outcome: if a run with the same is finished, it is reported again.
    prepared = prepare(request, progress=to.progress)
    asked = _identity(request, after, prepared)
    if done := before.same(asked, to.progress, source=prepared.source.folder):
        return Result(done)
    if request.stream and after.repair is not None:  # a search may take hours
        check_streamed_repair(prepared.source)
    if after.heal_steps is not None:  # read once before the search, so that it is there after it
        healing = HealRequest(request.model, steps=after.heal_steps)
        healing_texts(
            after.text or request.calibration,
            prepared.source.name,
            prepared.recipe.tokenizer,
            prepared.held_out,
            sequences=healing.steps * healing.batch,
            seed=request.seed,
        )
    # A folder beside the output, so that the last stage is renamed and not copied.
    run = StagedRun(request, after, beside(place.place, STAGES), to.store, to.progress)
    done = _done(run, place, asked)
    remember_run(done, request, to)
    return Result(done)


def _done(run: StagedRun, place: OutputFolder, asked: dict[str, Json]) -> Record:
    """All stages in a folder of their own; the last of them then takes the output's place."""
    begun = run.stages.is_dir()
    try:
        _begin(run.stages, command(run.request, run.after, place.path))
        last = _through(run)
        record = _whole(run, last, place.path, asked)
        place.take(last)
    except UserError:
        if not begun:  # what an earlier run has done stays
            shutil.rmtree(run.stages, ignore_errors=True)
        raise
    # The last stage has taken the output's place; the others have done their work.
    shutil.rmtree(run.stages, ignore_errors=True)
    return record


def place_of(request: PruneRequest, after: After, to: Destination) -> OutputFolder:
    """Where the run ends, beside all that any of its stages reads.

    Args:
        request: What is cut.
        after: What follows the cut.
        to: Where the last checkpoint goes.
    """
    place = to.folder(request, working=(STAGES,))
    place.also(HealRequest(request.model, text=after.text))
    return place


def _ended(folder: Path) -> tuple[Record, Json] | None:
    """The record of a run of several stages, and what decided its outcome."""
    record = read_record(folder)
    return (record, record.composed) if isinstance(record, Record) and record.composed else None


def _begin(stages: Path, asked: str) -> None:
    """Make the folder of the stages, or go on in it if it was made by the same command."""
    note = stages / "command.txt"
    before = note.read_text(encoding="utf-8") if note.is_file() else asked
    if before != asked:
        raise StudyMismatch(
            f"a run for this output was begun as `{before}`: ask for the same to go on, name"
            f" another --output, or delete {stages.name}"
        )
    stages.mkdir(exist_ok=True)
    note.write_text(asked, encoding="utf-8")


def _through(run: StagedRun) -> Path:
    """All stages, in order; returns the folder of the last."""
    after, stages = run.after, run.stages
    last = stages / "cut"
    run.cut(last)
    if after.repair is not None and run.repaired(last, stages / "repaired", after.repair):
        last = stages / "repaired"
    if after.heal_steps is not None:
        # Layers were chosen on the quantized model, whose weights healing cannot move.
        if after.quantize_first:
            run.plain_again(last, stages / "plain")
            last = stages / "plain"
        run.heal(last, stages / "healed", after.heal_steps)
        last = stages / "healed"
    if after.scheme is not None and (after.heal_steps is not None or not after.quantize_first):
        run.quantize(last, stages / "quantised")
        last = stages / "quantised"
    return last


def _identity(request: PruneRequest, after: After, prepared: Prepared) -> dict[str, Json]:
    """What decides the answer of the whole run; what cannot be cut is refused on the way."""
    tasks = {} if request.utility is None else tasks_of(request)
    text = None
    if after.text is not None and Path(after.text).is_file():
        # A file may change under its name; its content decides.
        text = sha256(Path(after.text).read_bytes()).hexdigest()
    return {
        **prepared.identity(),
        **items_asked(request, tasks),
        # Field names as records already written have them, so that finished runs are recognized.
        "scheme": after.scheme,
        "quantise_first": after.quantize_first,
        "heal_steps": after.heal_steps,
        **({} if after.repair is None else {"repair": after.repair}),
        **({} if request.finalists is None else {"finalists": request.finalists}),
        "text": bare(after.text),
        "text_sha256": text,
    }


def _whole(run: StagedRun, last: Path, output: Path, asked: dict[str, Json]) -> Record:
    """The one report of the run, written where the last stage lies."""
    whole = read_record(last)
    assert isinstance(whole, Record)  # every stage hands on the record of the cut
    whole.command = command(run.request, run.after, output)
    first = run.stages / f"{Path(run.request.model).name}-{run.after.scheme}"
    if run.after.quantize_first and (record := read_record(first)) is not None:
        whole.after = [*(record.after or []), *(whole.after or [])]
    # Neither the cut alone nor its last stage may be taken for the whole run, nor the reverse.
    whole.identity = {**whole.identity, "composed": asked}
    write_record(last, whole)
    write_page(last, whole)
    return whole


def command(request: PruneRequest, after: After, output: Path) -> str:
    """The command line that asks for this.

    Args:
        request: What is cut.
        after: What follows the cut.
        output: Folder for the last checkpoint.
    """
    words = [request.command(output)]
    # The cut is asked with its repair, which the search must know of.
    if after.repair is not None and after.repair_named and request.repair is None:
        words.append(f"--repair {after.repair}")
    if after.scheme is not None:
        words.append(f"--quantize {after.scheme}")
    if after.quantize_first:
        words.append("--quantize-first")
    if after.heal_steps is not None:
        words.append(f"--heal {after.heal_steps}")
    return " ".join(words)
