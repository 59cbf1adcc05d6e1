"""`heal`: a cut checkpoint learns from the model it was cut from, and is written anew."""

import gc
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

from coterie.deploy import quiet
from coterie.deploy.judging import sequence_losses
from coterie.deploy.lessons import Learned, Plan, check_resume, learn
from coterie.deploy.merging import check_written, write_healed
from coterie.deploy.origin import HealError, kept_players
from coterie.deploy.pupils import Adapted, Pupil, Rewritten
from coterie.deploy.quantise import check_plain
from coterie.evaluation.calibration import TextSet, Tokens
from coterie.game.coalitions import Vector
from coterie.models.checkpoints import (
    default_dtype,
    load_model,
    load_tokenizer,
    pick_device,
    resolve,
)
from coterie.models.layer_fields import text_config
from coterie.models.sources import REFERENCE, Source
from coterie.models.stack import find_stack
from coterie.pipeline.folder import as_read, check_output, read_record, written_aside
from coterie.pipeline.heal_record import Parts, command_line, remember
from coterie.pipeline.heal_texts import Judges, healing_texts, held_out_texts
from coterie.pipeline.opening import Progress, Silent, text_part
from coterie.pipeline.provenance import bare, machine, versions
from coterie.pipeline.verdict import difference, n_bytes, perplexity, recovered
from coterie.plain import Json
from coterie.report.healing import AfterPart, LearningPart
from coterie.report.record import Record

RATES = {"lora": 2e-3, "full": 5e-4}
"""Peak learning rates by mode, measured on the reference model; wider models take less."""

_WIDTH = 160
"""Width of the reference model: rates fall with the width beyond it."""


@dataclass(frozen=True)
class Healing:
    """How to heal a checkpoint.

    Args:
        model: Folder of the cut checkpoint.
        teacher: The model it was cut from; None is what its `coterie.json` names.
        revision: Branch, tag or commit of a teacher on the Hub.
        text: Text to learn from; None is the reference model's training text, for others C4.
        judges: Text that judges.
        mode: ``"lora"`` trains adapters of ``rank`` and merges them, ``"full"`` every weight kept.
        steps: Optimiser steps of ``batch`` sequences; ``minutes`` bounds them.
        learning_rate: At its peak; None is measured on the reference model, less for wider ones.
        seams: Weight of the hidden states where layers were cut, beside the KL of the predictions.
    """

    model: str
    teacher: str | None = None
    revision: str | None = None
    text: str | None = None
    judges: Judges = field(default_factory=Judges)
    mode: str = "lora"
    rank: int = 32
    steps: int = 200
    minutes: float | None = None
    batch: int = 8
    learning_rate: float | None = None
    seams: float = 0.0
    seed: int = 0
    device: str = "auto"
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            HealError: one clear line about the first thing that is wrong.
        """
        if self.mode not in RATES:
            raise HealError(f"--mode {self.mode} is unknown: there is {', '.join(RATES)}")
        for name in ("rank", "steps", "batch", "minutes", "learning_rate"):
            number = getattr(self, name)
            if number is not None and not 0 < number < float("inf"):
                raise HealError(f"--{name.replace('_', '-')} {number} must be above zero")
        if not 0 <= self.seams < float("inf"):
            raise HealError(f"--seams {self.seams} must not be negative: 0 leaves the seams alone")
        if self.seed < 0:
            raise HealError(f"--seed {self.seed} must not be negative")
        if self.mode == "lora" and find_spec("peft") is None:
            raise HealError(
                "--mode lora needs peft, which is not installed: pip install 'coterie[heal]', or"
                " take --mode full"
            )

    def as_json(self) -> dict[str, Json]:
        """The same as plain JSON; paths are reduced to their last part."""
        judges = {name: bare(text) for name, text in asdict(self.judges).items()}
        named = {name: bare(getattr(self, name)) for name in ("model", "teacher", "text")}
        return {**asdict(self), **named, "judges": judges}


@dataclass(frozen=True, eq=False)
class _Patient:
    """Everything known before a weight is loaded."""

    request: Healing
    cut: Source
    full: Source
    kept: tuple[int, ...]
    record: Record | None
    lessons: TextSet
    judges: TextSet

    def identity(self) -> dict[str, Json]:
        """What decides the outcome."""
        return {
            **self.request.as_json(),
            "cut": self.cut.fingerprint(),
            "full": self.full.fingerprint(),
            "text_sha256": self.lessons.sha256,
            "held_out_sha256": self.judges.sha256,
            "coterie": versions()["coterie"],
        }


def heal(
    request: Healing,
    *,
    output: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Parts:
    """Heal a cut checkpoint by short distillation from the model it was cut from.

    Stopped at any moment, the same call goes on from what was learned.

    Args:
        output: Folder for the healed checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the written checkpoint is not what was learned.
    """
    request.check()
    quiet()
    progress, output = progress or Silent(), Path(output)
    done = None if overwrite else read_record(output)
    if done is None:
        check_output(output, overwrite=overwrite)
    patient = _admit(request, progress)
    identity = as_read(patient.identity())
    if done is not None and (parts := Parts.finished(done, identity)) is not None:
        progress.say(f"{output.name} holds the finished healing of this very request")
        return parts
    check_output(output, overwrite=overwrite, source=patient.cut.folder)
    state = output.resolve().parent / f".{output.resolve().name}.healing.safetensors"
    check_resume(state, identity)
    part = _heal(patient, output, state, identity, progress, overwrite=overwrite)
    state.unlink(missing_ok=True)
    return part


def _admit(request: Healing, progress: Progress) -> _Patient:
    cut = resolve(request.model, trust_remote_code=request.trust_remote_code)
    check_plain(cut)
    record = read_record(cut.folder)
    teacher, revision = _teacher(request, record, cut)
    full = resolve(teacher, revision, trust_remote_code=request.trust_remote_code)
    kept = kept_players(cut, full)
    progress.say(f"reading texts for {cut.name}")
    tokenizer = load_tokenizer(full)
    judges = held_out_texts(request.judges, record, full.name, full, tokenizer)
    lessons = healing_texts(
        request.text,
        full.name,
        tokenizer,
        judges,
        sequences=request.steps * request.batch,
        length=judges.length,
        seed=request.seed,
    )
    return _Patient(request, cut, full, kept, record, lessons, judges)


def _teacher(request: Healing, record: Record | None, cut: Source) -> tuple[str, str | None]:
    """Name and revision of the model the checkpoint was cut from."""
    if request.teacher is not None:
        return request.teacher, request.revision
    if record is not None and "model" in record:
        named = record["model"]
        if named["hub_id"] is not None:
            return named["hub_id"], named["revision"]
        if named["name"] == REFERENCE:
            return REFERENCE, None
        raise HealError(
            f"{cut.name!r} was cut from a local folder {named['name']!r}: say where it is with"
            " --teacher DIR"
        )
    raise HealError(f"{cut.name!r} does not say what it was cut from: name it with --teacher MODEL")


def _heal(
    patient: _Patient,
    output: Path,
    state: Path,
    identity: Mapping[str, Json],
    progress: Progress,
    *,
    overwrite: bool,
) -> Parts:
    request = patient.request
    device = pick_device(request.device)
    dtype = torch.float32 if request.mode == "full" else default_dtype(device)[0]
    tokens = patient.judges.tokens
    losses = {"before": _judged(patient.cut, dtype, device, tokens)}
    progress.say(f"loading {patient.full.name} once, to teach and to learn")
    pupil = _pupil(patient, dtype, device)
    losses["full"] = sequence_losses(pupil.model, tokens)
    plan = _plan(patient)

    def step(done: int, total: int) -> None:
        progress.step("healing", done, total)

    learned = learn(
        pupil, patient.lessons.tokens, plan, checkpoint=state, identity=identity, step=step
    )
    trained, path = pupil.merged(), pupil.stack.path
    in_memory = _in_memory(pupil, tokens)
    n_trained = sum(one.numel() for one in pupil.trained.values())
    del pupil
    gc.collect()
    with written_aside(output, overwrite=overwrite) as folder:
        progress.say(f"writing {output.name}")
        write_healed(patient.cut, trained, path, patient.kept, folder)
        healed = Source(output.name, folder, None, request.trust_remote_code)
        losses["after"] = _judged(healed, dtype, device, tokens)
        check_written(output.name, in_memory, float(losses["after"][0].mean()))
        learning = _learning(request, plan, learned, n_trained)
        part = _part(patient, losses, healed, learning, output, str(device))
        return remember(folder, patient.cut.folder, patient.record, part, identity)


def _pupil(patient: _Patient, dtype: torch.dtype, device: torch.device) -> Pupil:
    model = load_model(patient.full, dtype=dtype, device=device)
    stack = find_stack(model)
    request = patient.request
    if request.mode == "full":
        return Rewritten(model, stack, patient.kept)
    return Adapted(model, stack, patient.kept, rank=request.rank, seed=request.seed)


def _plan(patient: _Patient) -> Plan:
    request = patient.request
    width = int(getattr(text_config(patient.full.config()), "hidden_size", _WIDTH))
    rate = request.learning_rate or RATES[request.mode] * min(1.0, _WIDTH / width)
    return Plan(request.steps, request.batch, rate, request.seams, request.minutes, request.seed)


def _judged(
    source: Source, dtype: torch.dtype, device: torch.device, tokens: Tokens
) -> tuple[Vector, int]:
    return sequence_losses(load_model(source, dtype=dtype, device=device), tokens)


def _in_memory(pupil: Pupil, tokens: Tokens) -> float:
    """Mean loss of the pupil as it stands, nats per token."""
    with pupil.alone():
        return float(sequence_losses(pupil.model, tokens, pupil.predict)[0].mean())


def _learning(request: Healing, plan: Plan, learned: Learned, n_trained: int) -> LearningPart:
    return LearningPart(
        mode=request.mode,
        rank=request.rank if request.mode == "lora" else None,
        learning_rate=plan.learning_rate,
        seams=plan.seams,
        batch=plan.batch,
        steps=learned.steps,
        steps_asked=plan.steps,
        tokens=learned.tokens,
        seconds=learned.seconds,
        trained_parameters=n_trained,
        kl_first=learned.kl[0],
        kl_last=learned.kl[1],
    )


def _part(
    patient: _Patient,
    losses: Mapping[str, tuple[Vector, int]],
    healed: Source,
    learning: LearningPart,
    output: Path,
    device: str,
) -> AfterPart:
    full, before, after = (losses[name][0] for name in ("full", "before", "after"))
    documents = patient.judges.documents
    return AfterPart(
        what="heal",
        command=command_line("heal", patient.request.as_json(), output),
        settings=patient.request.as_json(),
        text=text_part(patient.lessons),
        held_out=text_part(patient.judges),
        full=perplexity(full, documents),
        before=perplexity(before, documents),
        after=perplexity(after, documents),
        difference=difference(before, after, patient.judges),
        recovered=recovered(full, before, after),
        learning=learning,
        bytes_before=n_bytes(patient.cut),
        bytes_after=n_bytes(healed),
        not_finite=sum(bad for _, bad in losses.values()),
        versions=versions(),
        machine=machine(torch.get_num_threads(), device),
    )
