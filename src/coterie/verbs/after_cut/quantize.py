"""`quantize`: write a checkpoint in fewer bits, read it back, and judge what that cost."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from coterie.game.coalitions import Vector
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_tokenizer, pick_device, resolve
from coterie.plain import Json
from coterie.quantization.checkpoint import Reloaded, check_plain, load_quantized, write_quantized
from coterie.quantization.environment import Environment, write_compressed
from coterie.quantization.schemes import SCHEMES, Scheme
from coterie.report.schema.after_cut import AfterPart, ReloadPart
from coterie.report.schema.generation import BesidePart
from coterie.report.schema.record import CheckpointRecord
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.complete import completed
from coterie.verbs.after_cut.part import after_part
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.record import Parts, ended_with, remember
from coterie.verbs.after_cut.texts import healing_texts, held_out_texts
from coterie.verbs.evaluate.nearness import nearness
from coterie.verbs.outputs.finished import FinishedRun
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import as_read, read_record
from coterie.verbs.outputs.rehearsal import rehearse, weights_take
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import versions

CALIBRATING = 128
"""Sequences that calibrate a scheme which needs any; as many as GPTQ's authors read."""


@dataclass(frozen=True, eq=False)
class _Texts:
    """Sequences that judge; and those that calibrate, None where the scheme reads none."""

    held_out: TextSet
    calibration: TextSet | None


@dataclass(frozen=True, eq=False)
class _Made:
    """The outcome: losses on what judges, before and after, each with how many were no number.

    Attributes:
        group: Inputs that share a scale, where the maker chose it.
        versions: Versions of the packages of another Python, where one did it.
    """

    before: tuple[Vector, int]
    after: tuple[Vector, int]
    reloaded: Reloaded
    group: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


@public
def quantize(
    request: QuantizeRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Parts:
    """Quantize a checkpoint, and prove that what is saved is what was quantized.

    >>> from coterie import QuantizeRequest, quantize
    >>> quantize(QuantizeRequest("reference", scheme="int3"), output=folder / "small")
    Traceback (most recent call last):
    coterie.quantization.schemes.SchemeError: --scheme int3 is unknown: there is int8, ...

    Args:
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file in which the paths of the cut are noted; None is the user's.
        request: Which checkpoint, and in which scheme.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: what was saved reads back otherwise; nothing is left of it.
    """
    progress, output = progress or NoProgress(), Path(output)
    request = completed(request, store)
    maker = request.maker()
    place = OutputFolder(output, request, overwrite=overwrite)
    before = FinishedRun(place, ended=ended_with)
    # What is quantized, and on which texts: known before a weight is loaded.
    source = resolve(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    check_plain(source)
    record = read_record(source.folder)
    progress.say(f"reading texts for {source.name}")
    texts = _texts(request, record, source, maker)
    # Done already: the checkpoint that is there answers.
    identity = as_read(_identity(request, source, texts, maker))
    if done := before.same(identity, progress, source=source.folder):
        return done
    # Of sixteen bits a scheme leaves four at least.
    rehearse(place, source, identity, needed=weights_take(source, 0.25))
    with place.written() as folder:
        made = _quantized(request, source, texts, maker, folder=folder, progress=progress)
        written = Source(output.name, folder, None, request.trust_remote_code)
        part = _part(request, (source, written), texts, made, output)
        return remember(folder, source.folder, record, part, identity)


def _texts(
    request: QuantizeRequest,
    record: CheckpointRecord | None,
    source: Source,
    maker: Scheme | Environment,
) -> _Texts:
    """The texts that judge, and those that calibrate where the scheme reads any."""
    # Of a cut checkpoint, texts are those of the model it was cut from.
    named = record.model.name if record is not None and record.model is not None else source.name
    tokenizer = load_tokenizer(source)
    held_out = held_out_texts(request, record, named, source, tokenizer)
    if isinstance(maker, Scheme):
        return _Texts(held_out, None)
    calibration = healing_texts(
        request.text, named, tokenizer, held_out, sequences=CALIBRATING, seed=0
    )
    return _Texts(held_out, calibration)


def _identity(
    request: QuantizeRequest, source: Source, texts: _Texts, maker: Scheme | Environment
) -> dict[str, Json]:
    """What decides the outcome."""
    return {
        **request.as_json(),
        "device": pick_device(request.device).type,
        "weights": source.fingerprint(),
        "held_out_sha256": texts.held_out.sha256,
        "text_sha256": None if texts.calibration is None else texts.calibration.sha256,
        "llmcompressor": maker.version if isinstance(maker, Environment) else None,
        "coterie": versions()["coterie"],
    }


def _quantized(
    request: QuantizeRequest,
    source: Source,
    texts: _Texts,
    maker: Scheme | Environment,
    *,
    folder: Path,
    progress: Progress,
) -> _Made:
    """Quantize into the folder, by a library that is here or by another Python."""
    device = pick_device(request.device)
    if isinstance(maker, Scheme):
        progress.say(f"quantizing {source.name} as {maker.name} ({maker.what})")
        return _here(source, maker, folder, texts.held_out, device)
    assert texts.calibration is not None  # read for every scheme of another Python
    what = SCHEMES[request.scheme].what
    progress.say(f"llm-compressor {maker.version} quantizes {source.name} ({what})")
    found = write_compressed(
        source,
        request.scheme,
        maker,
        folder=folder,
        texts=(texts.calibration.tokens, texts.held_out.tokens),
        device=device,
    )
    return _Made(found.before, found.after, found.reloaded, found.group, found.versions)


def _here(
    source: Source, scheme: Scheme, folder: Path, held_out: TextSet, device: torch.device
) -> _Made:
    """Quantize by a library of this environment."""
    # Judged and freed first, so that plain and quantized model are not in memory together.
    before = floored_losses(load_quantized(source, device), held_out.tokens)
    reloaded = write_quantized(source, scheme, device, folder)
    written = Source(folder.name, folder, None, source.trust_remote_code)
    # From the files, not from memory: what a user will load is what is judged.
    after = floored_losses(load_quantized(written, device), held_out.tokens)
    return _Made(before, after, reloaded)


def _beside(request: QuantizeRequest, sources: tuple[Source, Source], texts: _Texts) -> BesidePart:
    """The quantized checkpoint held against the plain one; they take turns in memory."""
    first, second = (partial(load_quantized, one, pick_device(request.device)) for one in sources)
    return nearness("before", first, second, texts.held_out, load_tokenizer(sources[0]))


def _part(
    request: QuantizeRequest,
    sources: tuple[Source, Source],
    texts: _Texts,
    made: _Made,
    output: Path,
) -> AfterPart:
    part = after_part(
        request,
        {"before": made.before, "after": made.after},
        sources=sources,
        texts=(texts.calibration, texts.held_out),
        output=output,
        device=str(pick_device(request.device)),
    )
    return replace(
        part,
        reloaded=ReloadPart(
            max_logit_difference=made.reloaded.max_logit_difference,
            largest_logit=made.reloaded.largest_logit,
        ),
        # What another Python has packed, this one may not be able to run.
        beside=None if made.versions else _beside(request, sources, texts),
        # The other Python has its own torch and transformers: those are the ones that count.
        versions={**part.versions, **made.versions},
        group=made.group,
        loads_with=SCHEMES[request.scheme].library,
    )
