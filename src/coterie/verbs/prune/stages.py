"""`prune --repair … --heal … --quantize …`: a cut and what follows it, one run with one report.

Every stage is one of the verbs, with a folder of its own beside the output, so that a run that was
stopped goes on from its last whole stage. Quantized first, the game is played on the quantized
model; a healing needs weights that move, so it then takes the same layers out of the plain model
and quantizes again what was healed.
"""

import shutil
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from coterie.errors import RepairError, StudyMismatch, UserError
from coterie.models.files.sources import REFERENCE
from coterie.plain import Json
from coterie.quantization.schemes import ELSEWHERE, SchemeError
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.verbs.after_cut.heal import heal
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.quantize import quantize
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.record import Parts
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.cut import cut
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.run import prune_alone
from coterie.verbs.search.task_utilities import items_asked, tasks_of
from coterie.verbs.shared.exchange import beside
from coterie.verbs.shared.finished import FinishedRun
from coterie.verbs.shared.output import RECORD, read_record, write_record
from coterie.verbs.shared.place import OutputFolder
from coterie.verbs.shared.prepared import Prepared, prepare
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.provenance import bare

STAGES = "stages"
"""The folder of the stages, beside the output."""


@dataclass(frozen=True)
class After:
    """What follows the cut.

    Attributes:
        scheme: To quantize in, or None.
        quantize_first: The game is played on the quantized model.
        heal_steps: Steps of healing, or None.
        text: To heal with, and to calibrate what needs that; None is the default of `heal`.
        repair: Which repair, ``"auto"``, or None.
    """

    scheme: str | None = None
    quantize_first: bool = False
    heal_steps: int | None = None
    text: str | None = None
    repair: str | None = None

    def check(self, request: PruneRequest) -> None:
        """Refuse what needs no model to be refused.

        Raises:
            UserError: one line.
        """
        if request.stream:
            raise UserError(
                "--stream never holds a whole model, as --quantize and --heal do: cut first, then "
                "give the folder to `coterie quantize` or `coterie heal`"
            )
        if request.names_several:
            raise UserError(
                f"--device {request.device} names several devices, and --quantize and --heal use"
                " one: name one of them"
            )
        if self.repair is not None:
            self._check_repair(request, self.repair)
        if self.quantize_first and self.scheme is None:
            raise SchemeError("--quantize-first does not say how: add --quantize int8")
        if self.scheme is not None:
            QuantizeRequest(request.model, scheme=self.scheme, device=request.device).maker()
            if self.quantize_first and self.scheme in ELSEWHERE:
                raise SchemeError(
                    f"--quantize-first plays the game on the quantized model, and {self.scheme} is"
                    " loaded by the environment of llm-compressor alone: quantize after the cut"
                )
        if self.heal_steps is not None:
            HealRequest(request.model, steps=self.heal_steps).check()

    def _check_repair(self, request: PruneRequest, method: str) -> None:
        RepairRequest(request.model, method=method).check()
        if request.players != "layer":
            raise RepairError(
                f"--repair {method} refits layers around layers that went, and --players"
                f" {request.players} cuts blocks: leave out one of the two"
            )
        if self.heal_steps is not None or self.quantize_first:
            other = "--quantize-first" if self.quantize_first else f"--heal {self.heal_steps}"
            raise RepairError(
                f"--repair {method} and {other} both start from the layers as the full model has"
                " them: leave out one of the two"
            )


@dataclass(frozen=True)
class _Run:
    """A run under way: what is asked for, and the folder that holds its stages."""

    request: PruneRequest
    after: After
    stages: Path
    store: Path | str | None
    progress: Progress

    @property
    def calibration(self) -> str | None:
        """The text that chose, of which part judges where no other is named."""
        default = "stdlib" if self.request.model == REFERENCE else None
        return self.request.calibration or default

    def cut(self, output: Path) -> None:
        """The cut, played on the plain model or on the quantized one."""
        request = self.request
        if self.after.quantize_first:
            first = self.stages / f"{Path(request.model).name}-{self.after.scheme}"
            self.quantize(request.model, first)
            request = replace(
                request, model=str(first), revision=None, calibration=self.calibration
            )
        prune_alone(request, output=output, store=self.store, progress=self.progress)

    def plain_again(self, chosen: Path, output: Path) -> None:
        """The layers that were chosen on the quantized model, taken out of the plain one."""
        record = read_record(chosen)
        if record is None or read_record(output) == record:
            return
        shutil.rmtree(output, ignore_errors=True)
        model, revision = self.request.model, self.request.revision
        gone = tuple(known(record.cut).removed)
        cut(CutRequest(model, layers=gone, revision=revision), output=output)
        # The record of the search goes along: it says why these layers were chosen.
        shutil.copyfile(chosen / RECORD, output / RECORD)

    def repair(self, model: Path, output: Path, method: str) -> Parts:
        """The cut checkpoint refitted to stand in for what the full model has."""
        request = RepairRequest(
            str(model),
            method=method,
            teacher=self.request.model,
            revision=self.request.revision,
            text=self.after.text or self.request.calibration,
            calibration=self.calibration,
            held_out=self.request.held_out,
            seed=self.request.seed,
            device=self.request.device,
            trust_remote_code=self.request.trust_remote_code,
        )
        return repair(request, output=output, progress=self.progress)

    def heal(self, model: Path, output: Path, steps: int) -> Parts:
        """The cut checkpoint healed by the plain full model."""
        request = HealRequest(
            str(model),
            teacher=self.request.model,
            revision=self.request.revision,
            text=self.after.text,
            calibration=self.calibration,
            held_out=self.request.held_out,
            steps=steps,
            seed=self.request.seed,
            device=self.request.device,
            trust_remote_code=self.request.trust_remote_code,
        )
        return heal(request, output=output, progress=self.progress)

    def quantize(self, model: Path | str, output: Path) -> Parts:
        """A checkpoint quantized."""
        # Only the schemes of llm-compressor measure texts; the others look at weights alone.
        asked, calibrates = self.request, self.after.scheme in ELSEWHERE
        request = QuantizeRequest(
            str(model),
            scheme=str(self.after.scheme),
            calibration=self.calibration,
            held_out=asked.held_out,
            device=asked.device,
            trust_remote_code=asked.trust_remote_code,
            revision=asked.revision if model == asked.model else None,
            text=self.after.text if calibrates else None,
        )
        return quantize(request, output=output, progress=self.progress)


def prune_and_after(
    request: PruneRequest,
    after: After,
    *,
    output: Path | str,
    overwrite: bool,
    store: Path | str | None,
    progress: Progress,
) -> Record:
    """Cut, heal and quantize in one run; the record of the cut, with the parts that followed.

    A run that has finished in ``output`` with the same request, weights and texts is reported again
    and nothing is done.

    Args:
        request: What is cut.
        after: What follows the cut.
        output: Folder for the last checkpoint.
        overwrite: Replace what is there.
        store: SQLite file of observations; None is the user's cache.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
        VerificationError: some stage wrote what it did not measure.
    """
    request.check()
    after.check(request)
    output = Path(output)
    place = place_of(request, after, output, overwrite=overwrite, store=store)
    before = FinishedRun(place, ended=_ended)
    # What decides the outcome: if a run with the same is finished, it is reported again.
    prepared = prepare(request, progress=progress)
    asked = _identity(request, after, prepared)
    if done := before.same(asked, progress, source=prepared.source.folder):
        return done
    # A folder beside the output, so that the last stage is renamed and not copied.
    stages = beside(place.place, STAGES)
    begun = stages.is_dir()
    try:
        _begin(stages, command(request, after, output))
        run = _Run(request, after, stages, store, progress)
        last = _through(run)
        record = _whole(run, last, output, asked)
        place.take(last)
    except UserError:
        if not begun:  # what an earlier run has done stays
            shutil.rmtree(stages, ignore_errors=True)
        raise
    # The last stage has taken the output's place; the others have done their work.
    shutil.rmtree(stages, ignore_errors=True)
    return record


def place_of(
    request: PruneRequest,
    after: After,
    output: Path | str,
    *,
    overwrite: bool,
    store: Path | str | None,
) -> OutputFolder:
    """Where the run ends, beside all that any of its stages reads.

    Args:
        request: What is cut.
        after: What follows the cut.
        output: Folder for the last checkpoint.
        overwrite: Replace what is there.
        store: SQLite file of observations; None is the user's cache.
    """
    place = OutputFolder(output, request, overwrite=overwrite, store=store, working=(STAGES,))
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


def _through(run: _Run) -> Path:
    """All stages, in order; returns the folder of the last."""
    after, stages = run.after, run.stages
    last = stages / "cut"
    run.cut(last)
    if after.repair is not None:
        run.repair(last, stages / "repaired", after.repair)
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
        "text": bare(after.text),
        "text_sha256": text,
    }


def _whole(run: _Run, last: Path, output: Path, asked: dict[str, Json]) -> Record:
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
    return whole


def command(request: PruneRequest, after: After, output: Path) -> str:
    """The command line that asks for this.

    Args:
        request: What is cut.
        after: What follows the cut.
        output: Folder for the last checkpoint.
    """
    words = [request.command(output)]
    if after.repair is not None:
        words.append(f"--repair {after.repair}")
    if after.scheme is not None:
        words.append(f"--quantize {after.scheme}")
    if after.quantize_first:
        words.append("--quantize-first")
    if after.heal_steps is not None:
        words.append(f"--heal {after.heal_steps}")
    return " ".join(words)
