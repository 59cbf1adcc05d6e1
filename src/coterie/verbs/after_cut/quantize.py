"""`quantize`: write a checkpoint in fewer bits, read it back, and judge what that cost."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch

from coterie.game.coalitions import Vector
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_tokenizer, pick_device, resolve
from coterie.quantization.checkpoint import Reloaded, check_plain, load_quantised, write_quantised
from coterie.quantization.environment import Environment, write_compressed
from coterie.quantization.schemes import ELSEWHERE, Scheme
from coterie.report.schema.after_cut import AfterPart, ReloadPart
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import TextSet, Tokens
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.record import Parts, ended_with, remember
from coterie.verbs.after_cut.texts import healing_texts, held_out_texts
from coterie.verbs.shared.finished import FinishedRun
from coterie.verbs.shared.output import as_read, read_record, written_aside
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.verdict import difference, n_bytes, perplexity

CALIBRATING = 128
"""Sequences that calibrate a scheme which needs any; as many as GPTQ's authors read."""


@dataclass(frozen=True, eq=False)
class _Made:
    """What came of it: losses on what judges, before and after, each with how many were no number.

    Attributes:
        group: Inputs that share a scale, where the maker chose it.
        versions: Of packages that are not those Coterie runs on.
    """

    before: tuple[Vector, int]
    after: tuple[Vector, int]
    reloaded: Reloaded
    group: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


def quantize(
    request: QuantizeRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Parts:
    """Quantise a checkpoint, and prove that what is saved is what was quantised.

    Args:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        request: Which checkpoint, and in which scheme.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: what was saved reads back otherwise; nothing is left of it.
    """
    progress, output = progress or NoProgress(), Path(output)
    device = pick_device(request.device)
    maker = request.maker()
    place = FinishedRun(output, overwrite=overwrite, ended=ended_with)
    source = resolve(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    check_plain(source)
    record = read_record(source.folder)
    named = record.model.name if record is not None and record.model is not None else source.name
    progress.say(f"reading texts for {source.name}")
    tokenizer = load_tokenizer(source)
    judges, texts = held_out_texts(request, record, named, source, tokenizer), None
    if isinstance(maker, Environment):
        texts = healing_texts(request.text, named, tokenizer, judges, sequences=CALIBRATING, seed=0)
    identity = as_read(
        {
            **request.as_json(),
            "device": device.type,
            "weights": source.fingerprint(),
            "held_out_sha256": judges.sha256,
            "text_sha256": None if texts is None else texts.sha256,
            "llmcompressor": maker.version if isinstance(maker, Environment) else None,
            "coterie": versions()["coterie"],
        }
    )
    if done := place.same(identity, progress, source=source.folder):
        return done
    with written_aside(output, overwrite=overwrite) as folder:
        made: _Made
        if isinstance(maker, Scheme):
            progress.say(f"quantising {source.name} as {maker.name} ({maker.what})")
            made = _here(source, maker, folder, judges, device)
        else:
            what = ELSEWHERE[request.scheme]
            progress.say(f"llm-compressor {maker.version} quantises {source.name} ({what})")
            tokens = (cast("TextSet", texts).tokens, judges.tokens)
            made = _elsewhere(source, request.scheme, maker, folder, tokens, device)
        written = Source(output.name, folder, None, request.trust_remote_code)
        part = _part(request, (source, written), judges, made, output, device)
        part = replace(part, text=None if texts is None else text_part(texts))
        return remember(folder, source.folder, record, part, identity)


def _here(
    source: Source, scheme: Scheme, folder: Path, judges: TextSet, device: torch.device
) -> _Made:
    """Quantise by a library of this environment."""
    before = floored_losses(load_quantised(source, device), judges.tokens)
    reloaded = write_quantised(source, scheme, device, folder)
    written = Source(folder.name, folder, None, source.trust_remote_code)
    after = floored_losses(load_quantised(written, device), judges.tokens)
    return _Made(before, after, reloaded)


def _elsewhere(
    source: Source,
    scheme: str,
    environment: Environment,
    folder: Path,
    texts: tuple[Tokens, Tokens],
    device: torch.device,
) -> _Made:
    """Quantise, read back and judge in another environment."""
    found = write_compressed(source, scheme, environment, folder, texts, device)
    return _Made(found.before, found.after, found.reloaded, found.group, found.versions)


def _part(
    request: QuantizeRequest,
    sources: tuple[Source, Source],
    judges: TextSet,
    made: _Made,
    output: Path,
    device: torch.device,
) -> AfterPart:
    (before, bad_before), (after, bad_after) = made.before, made.after
    return AfterPart(
        what="quantize",
        command=request.command(output),
        settings=request.as_json(),
        held_out=text_part(judges),
        before=perplexity(before, judges.documents),
        after=perplexity(after, judges.documents),
        difference=difference(before, after, judges),
        reloaded=ReloadPart(
            max_logit_difference=made.reloaded.max_logit_difference,
            largest_logit=made.reloaded.largest_logit,
        ),
        bytes_before=n_bytes(sources[0]),
        bytes_after=n_bytes(sources[1]),
        not_finite=bad_before + bad_after,
        versions={**versions(), **made.versions},
        machine=machine(torch.get_num_threads(), str(device)),
        group=made.group,
    )
