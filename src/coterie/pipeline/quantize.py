"""`quantize`: write a checkpoint in fewer bits, read it back, and judge what that cost."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from coterie.deploy.judging import sequence_losses
from coterie.deploy.quantise import Reloaded, check_plain, load_quantised, write_quantised
from coterie.deploy.schemes import find_scheme
from coterie.evaluation.calibration import TextSet
from coterie.game.coalitions import Vector
from coterie.models.checkpoints import load_tokenizer, pick_device, resolve
from coterie.models.sources import Source
from coterie.pipeline.folder import as_read, check_output, read_record, written_aside
from coterie.pipeline.heal_record import Parts, command_line, remember
from coterie.pipeline.heal_texts import Judges, held_out_texts
from coterie.pipeline.opening import Progress, Silent, text_part
from coterie.pipeline.provenance import bare, machine, versions
from coterie.pipeline.verdict import difference, n_bytes, perplexity
from coterie.plain import Json
from coterie.report.healing import AfterPart, ReloadPart


@dataclass(frozen=True)
class Quantising:
    """Which checkpoint, in which scheme, judged on which text.

    Args:
        model: Hub id, local folder or ``"reference"``; cut or whole.
        scheme: One of `coterie.deploy.schemes.SCHEMES`.
        judges: Text that judges.
    """

    model: str
    scheme: str
    judges: Judges = field(default_factory=Judges)
    device: str = "auto"
    trust_remote_code: bool = False
    revision: str | None = None

    def as_json(self) -> dict[str, Json]:
        """The same as plain JSON; paths are reduced to their last part."""
        judges = {name: bare(text) for name, text in asdict(self.judges).items()}
        return {**asdict(self), "model": bare(self.model), "judges": judges}


def quantize(
    request: Quantising,
    *,
    output: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Parts:
    """Quantise a checkpoint, and prove that what is saved is what was quantised.

    Args:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: what was saved reads back otherwise; nothing is left of it.
    """
    progress, output = progress or Silent(), Path(output)
    device = pick_device(request.device)
    scheme = find_scheme(request.scheme, device.type)
    done = None if overwrite else read_record(output)
    if done is None:
        check_output(output, overwrite=overwrite)
    source = resolve(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    check_plain(source)
    record = read_record(source.folder)
    named = record["model"]["name"] if record is not None and "model" in record else source.name
    progress.say(f"reading texts for {source.name}")
    judges = held_out_texts(request.judges, record, named, source, load_tokenizer(source))
    identity = as_read(
        {
            **request.as_json(),
            "weights": source.fingerprint(),
            "held_out_sha256": judges.sha256,
            "coterie": versions()["coterie"],
        }
    )
    if done is not None and (parts := Parts.finished(done, identity)) is not None:
        progress.say(f"{output.name} holds the finished run of this very request")
        return parts
    check_output(output, overwrite=overwrite, source=source.folder)
    before = sequence_losses(load_quantised(source, device), judges.tokens)
    with written_aside(output, overwrite=overwrite) as folder:
        progress.say(f"quantising {source.name} as {scheme.name} ({scheme.what})")
        reloaded = write_quantised(source, scheme, device, folder)
        written = Source(output.name, folder, None, request.trust_remote_code)
        after = sequence_losses(load_quantised(written, device), judges.tokens)
        part = _part(request, (source, written), judges, (before, after), reloaded, output, device)
        return remember(folder, source.folder, record, part, identity)


def _part(
    request: Quantising,
    sources: tuple[Source, Source],
    judges: TextSet,
    losses: tuple[tuple[Vector, int], tuple[Vector, int]],
    reloaded: Reloaded,
    output: Path,
    device: torch.device,
) -> AfterPart:
    (before, bad_before), (after, bad_after) = losses
    return AfterPart(
        what="quantize",
        command=command_line("quantize", request.as_json(), output),
        settings=request.as_json(),
        held_out=text_part(judges),
        before=perplexity(before, judges.documents),
        after=perplexity(after, judges.documents),
        difference=difference(before, after, judges),
        reloaded=ReloadPart(
            max_logit_difference=reloaded.max_logit_difference,
            largest_logit=reloaded.largest_logit,
        ),
        bytes_before=n_bytes(sources[0]),
        bytes_after=n_bytes(sources[1]),
        not_finite=bad_before + bad_after,
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(device)),
    )
