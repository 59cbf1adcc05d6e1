"""`cut --repair`: named layers go, and what stays is refitted to stand in for them, in one run."""

import shutil
from dataclasses import replace
from pathlib import Path

from coterie.models.files.places import REFERENCE
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.cut import Cut, cut
from coterie.verbs.outputs.exchange import beside
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.progress import Progress

ASIDE = "cut"
"""What the cut is called that is repaired, beside the output."""


def cut_and_repair(
    request: CutRequest, *, output: Path | str, overwrite: bool = False, progress: Progress
) -> Cut:
    """Cut named layers out of a checkpoint, and write what is left of it repaired.

    Args:
        request: Which layers of which model, and which repair.
        output: Folder for the repaired checkpoint; the cut is written beside it and thrown away.
        overwrite: Replace a checkpoint that is there.
        progress: Told what is being done.

    Raises:
        UserError: The cut or the repair cannot be made; nothing was written.
        VerificationError: What was written is not what was measured; nothing is left of it.
    """
    request.check()
    asked = repair_of(request, Path(output))
    asked.check()
    place = OutputFolder(output, request, overwrite=overwrite, working=(ASIDE,))
    place.check()
    aside = beside(place.place, ASIDE)
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    try:
        done = cut(
            replace(request, repair=None, text=None, held_out=None), output=aside, progress=progress
        )
        asked = replace(asked, model=str(aside))
        parts = repair(asked, output=output, overwrite=overwrite, progress=progress)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(done, repaired=parts.part)


def repair_of(request: CutRequest, folder: Path) -> RepairRequest:
    """The repair of a cut that is asked for.

    Args:
        request: The cut.
        folder: Where the cut checkpoint is.
    """
    calibration = "stdlib" if request.model == REFERENCE else request.text
    return RepairRequest(
        str(folder),
        method=request.repair or "auto",
        teacher=request.model,
        revision=request.revision,
        text=request.text,
        calibration=None if request.held_out else calibration,
        held_out=request.held_out,
        device=request.device,
        stream=request.stream,
        trust_remote_code=request.trust_remote_code,
    )
