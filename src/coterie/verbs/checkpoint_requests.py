"""What the verbs are asked for that look at a checkpoint or pass it on, and play no game."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from coterie.errors import CutError, UserError
from coterie.verbs.options.declare import Option
from coterie.verbs.options.forms import LAYERS
from coterie.verbs.options.machine import Device, FromDisk
from coterie.verbs.options.serve import Serve
from coterie.verbs.options.source import Folder, Model, Revision, Trust
from coterie.verbs.options.texts import Lesson

EXPORTS = ("mergekit", "gguf", "vllm-check", "ollama")
"""Where a checkpoint can be taken."""


@dataclass(frozen=True, kw_only=True)
class InspectRequest(Trust, Revision, Model):
    """Which model, and which cut of it is described.

    >>> InspectRequest("reference", layers=(3, 7, 8, 9)).command()
    'coterie inspect reference --layers 3,7,8,9'
    """

    VERB = "inspect"

    layers: Annotated[
        tuple[int, ...],
        Option("--layers", "L", "Layers to CUT, 0-based, such as 3,7-9.", form=LAYERS),
    ] = ()

    HELP: ClassVar = {"layers": "Describe this cut: layers to CUT, such as 3,7-9."}


@dataclass(frozen=True, kw_only=True)
class CutRequest(FromDisk, Device, Serve, Lesson, InspectRequest):
    """Which layers are cut out of which checkpoint, and how what stays is repaired.

    Args:
        model: Hub id, local folder or ``"reference"``.
        layers: The layers to CUT, 0-based.
        list_file: Or a file that lists them (see `coterie.models.cutting.lists`).
        mergekit: File for the same cut as a mergekit config; None writes none.
        repair: Name of a repair after the cut, ``"auto"`` or ``"none"``; None is ``"auto"`` where
            a text is given, and ``"none"`` where there is none to fit on.
        text: Text that the repair is fitted on, and part of which judges it.
        held_out: Text that judges; None judges nothing but a repair, on part of ``text``.
        device: Where the repair is made.
        stream: Load no model: the cut is checked in structure, and the repair reads from disk.
        serve: Runtimes of which all must read the cut model rightly.

    >>> CutRequest("reference", layers=(3,)).command(Path("out"))
    'coterie cut reference --layers 3 --output out'
    """

    VERB = "cut"

    list_file: Annotated[
        Path | None,
        Option(
            "--list",
            "FILE",
            "Or: a file that lists them: of EvoPress, SLEB, ShortGPT, or a coterie.json.",
        ),
    ] = None
    mergekit: Annotated[
        Path | None,
        Option(
            "--mergekit",
            "FILE",
            "Also write the cut as a mergekit passthrough YAML.",
            written=True,
        ),
    ] = None

    repair: Annotated[
        str | None,
        Option(
            "--repair",
            "NAME",
            "Then repair, as `coterie repair` does, by a method of it, `auto` (the default where "
            "--text is given) or `none`.",
        ),
    ] = None

    held_out: Annotated[
        str | None,
        Option(
            "--held-out",
            "TEXT",
            "Text that judges the cut: perplexity, KL and what both models write. Default: none, "
            "and with --repair part of --text.",
            path=True,
        ),
    ] = None

    # A cut must name its layers, which `inspect` only may.
    HELP: ClassVar = {
        "layers": "Layers to CUT, 0-based, such as 3,7-9.",
        "text": "Repair what stays on this text, of which whole documents are set aside to judge.",
        "device": "Of --repair and --held-out: auto, cuda, mps or cpu.",
        "stream": "Load no model: the cut is checked in structure alone, and with --repair its "
        "layers are read from disk, as in `coterie repair`.",
    }

    @property
    def repairs(self) -> bool:
        """Whether a repair follows the cut."""
        return self.text is not None if self.repair is None else self.repair != "none"

    def check(self) -> None:
        """Refuse a cut of which nothing is said, or two things.

        Raises:
            CutError: one clear line.
        """
        super().check()
        # Two lists may disagree, and none would copy the model under a new name.
        if self.layers and self.list_file is not None:
            raise CutError("name the layers to cut by either --layers 3,7-9 or --list FILE")
        if not self.layers and self.list_file is None:
            raise CutError("no layer to cut is named: give either --layers 3,7-9 or --list FILE")
        if self.text is not None and not self.repairs:
            raise CutError(
                "--text is what a repair is fitted on, and --repair none makes none: leave out one"
            )
        if self.held_out is not None and self.stream and not self.repairs:
            raise CutError("--held-out loads both models, and --stream none: leave out one of them")
        if self.mergekit is not None and self.repairs:
            raise CutError(
                "a mergekit config names layers of the full model, and a repair changes them: leave"
                " out --mergekit or --repair"
            )


@dataclass(frozen=True, kw_only=True)
class ExportRequest(Trust, Folder):
    """Which checkpoint is checked for which runtime.

    Args:
        folder: Folder of the checkpoint.
        to: ``"mergekit"``, ``"gguf"``, ``"vllm-check"`` or ``"ollama"``.
        base: Where mergekit finds the full model; None is the one the record names.
        converter: llama.cpp's ``convert_hf_to_gguf.py``, or the folder that holds it; None is the
            one on the search path.
        environment: A Python that has a binding of llama.cpp; None is this one, if it has.

    >>> ExportRequest(Path("out"), to="gguf").command()
    'coterie export out --to gguf'
    """

    VERB = "export"

    to: Annotated[
        str,
        Option(
            "--to",
            "RUNTIME",
            "`mergekit`: a passthrough config of the same cut; `gguf`: a file for llama.cpp; "
            "`vllm-check`; `ollama`: a Modelfile.",
            choices=lambda: EXPORTS,
        ),
    ]
    base: Annotated[
        str | None, Option("--base", "MODEL", "Where mergekit finds the full model.")
    ] = None
    converter: Annotated[
        Path | None,
        Option(
            "--converter",
            "PATH",
            "With gguf: llama.cpp's convert_hf_to_gguf.py, or its folder; it is run, and what it "
            "wrote is checked.",
        ),
    ] = None
    environment: Annotated[
        str | None,
        Option(
            "--environment",
            "PYTHON",
            "With gguf: a Python that has xllamacpp, to compare tokens with transformers.",
        ),
    ] = None

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UserError: one clear line.
        """
        super().check()
        # Only a mergekit config names the full model; for others it would be ignored.
        if self.base is not None and self.to != "mergekit":
            raise UserError("options such as --base go with --to mergekit: leave it out")
        if self.to != "gguf" and (self.converter or self.environment) is not None:
            raise UserError("--converter and --environment go with --to gguf")


@dataclass(frozen=True, kw_only=True)
class PushRequest(Trust, Folder):
    """Which checkpoint goes where on the Hugging Face Hub.

    Args:
        folder: Folder of the checkpoint.
        repository: ``owner/name``, made if it is not there.
        private: Only its owner sees it; a public one that is there already is refused.
        results: Reports of ``coterie evaluate --json`` that judged this checkpoint.

    >>> PushRequest(Path("out"), "me/small-model", private=True).command()
    'coterie push out me/small-model --private'
    """

    VERB = "push"

    repository: Annotated[str, Option("REPO", "REPO", "owner/name on the Hugging Face Hub.")] = (
        # The one argument that may be given by position, as on the command line.
        field(kw_only=False)
    )
    private: Annotated[bool, Option("--private", "", "Only you see it.")] = False
    results: Annotated[
        tuple[Path, ...],
        Option(
            "--results",
            "FILE",
            "A report of `coterie evaluate DIR --json`, for the card; may be given again.",
        ),
    ] = ()
