"""Every stage of a run of several, asked of its verb: cut, repair, heal, quantize."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from coterie.errors import UserError
from coterie.models.files.places import REFERENCE
from coterie.quantization.schemes import SCHEMES
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
from coterie.verbs.outputs.records import RECORD, read_record, write_record
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.run import prune_alone
from coterie.verbs.search.result import remarks_joined
from coterie.verbs.shared.progress import Progress


@dataclass(frozen=True)
class StagedRun:
    """A run under way: what is asked for, the folder of its stages, and each of them as a verb."""

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
        prune_alone(request, Destination(output, store=self.store, progress=self.progress))

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

    def repaired(self, model: Path, output: Path, method: str) -> bool:
        """Whether the cut checkpoint was repaired; a repair nobody asked for may be left out.

        Args:
            model: Folder of the checkpoint.
            output: Folder for the new one.
            method: Name of the repair.

        Raises:
            UserError: the repair that was asked for cannot be made.
        """
        try:
            self.repair(model, output, method)
        except UserError as reason:
            if self.after.repair_named:
                raise
            self.progress.say(f"warning: left as it was cut: {reason}")
            _remark(model, f"not repaired: {reason}")
            return False
        return True

    def repair(self, model: Path, output: Path, method: str) -> Parts:
        """The cut checkpoint refitted to stand in for what the full model has.

        Args:
            model: Folder of the checkpoint.
            output: Folder for the new one.
            method: Name of the repair.
        """
        request = RepairRequest(
            str(model),
            method=method,
            teacher=self.request.model,
            revision=self.request.revision,
            text=self.after.text or self.request.calibration,
            calibration=self.calibration,
            held_out=self.request.held_out,
            seed=self.request.seed,
            device=self.request.first_device,
            stream=self.request.stream,
            trust_remote_code=self.request.trust_remote_code,
        )
        return repair(request, output=output, store=self.store, progress=self.progress)

    def heal(self, model: Path, output: Path, steps: int) -> Parts:
        """The cut checkpoint healed by the plain full model.

        Args:
            model: Folder of the checkpoint.
            output: Folder for the new one.
            steps: Steps of learning.
        """
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
        return heal(request, output=output, store=self.store, progress=self.progress)

    def quantize(self, model: Path | str, output: Path) -> Parts:
        """A checkpoint quantized."""
        # Only the schemes of llm-compressor measure texts; the others look at weights alone.
        asked, scheme = self.request, str(self.after.scheme)
        request = QuantizeRequest(
            str(model),
            scheme=scheme,
            calibration=self.calibration,
            held_out=asked.held_out,
            device=asked.device,
            trust_remote_code=asked.trust_remote_code,
            revision=asked.revision if model == asked.model else None,
            text=self.after.text if SCHEMES[scheme].elsewhere else None,
        )
        return quantize(request, output=output, store=self.store, progress=self.progress)


def _remark(folder: Path, remark: str) -> None:
    """Add a sentence on the choice to a record, once however often the run goes on."""
    record = read_record(folder)
    if not isinstance(record, Record) or record.choice is None:
        return
    said = record.choice.remark or ""
    if remark not in said:
        record.choice = replace(record.choice, remark=remarks_joined(said, remark))
        write_record(folder, record)
