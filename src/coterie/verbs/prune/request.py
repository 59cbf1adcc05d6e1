"""What `prune` is asked for: how much goes, or what the cut model must meet, and what follows."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from coterie.errors import UserError
from coterie.game.search.methods import SEARCH_METHODS
from coterie.verbs.options.amount import TargetOptions
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.serve import Serve
from coterie.verbs.shared.request import Request


@dataclass(frozen=True, kw_only=True)
class Following(Options):
    """What is done to the checkpoint beside the cut."""

    quantize: Annotated[
        str | None,
        Option(
            "--quantize",
            "NAME",
            "Then quantize, by a scheme of `coterie quantize`.",
            recorded=False,
        ),
    ] = None
    quantize_first: Annotated[
        bool,
        Option(
            "--quantize-first",
            "",
            "Quantize before the cut: the game is played on that.",
            recorded=False,
        ),
    ] = False
    heal: Annotated[
        int | None,
        Option(
            "--heal",
            "STEPS",
            "Then heal, as `coterie heal` does, before quantizing.",
            recorded=False,
        ),
    ] = None

    repair: Annotated[
        str | None,
        Option(
            "--repair",
            "NAME",
            "Then repair, as `coterie repair` does, by a method of it, `auto` or `none`. Default: "
            "`auto` after guided search, which then compares coalitions by what they lose once "
            "repaired; `none` after a published method, with --stream, and where layers cannot be "
            "refitted (--players, --utility, --quantize-first).",
            recorded=False,
        ),
    ] = None

    finalists: Annotated[
        str | None,
        Option(
            "--finalists",
            "NAME",
            "`healed`: the last word between finalists is what each loses after a repair and 20 "
            "steps of healing on the same batches.",
            choices=lambda: ("healed",),
            recorded=False,
        ),
    ] = None

    @property
    def usual_repair(self) -> str | None:
        """The repair where none is named."""
        return None

    @property
    def repair_asked(self) -> str | None:
        """The repair that follows the cut; None where none does."""
        if self.repair is None:
            return self.usual_repair
        return None if self.repair == "none" else self.repair

    @property
    def has_more_stages(self) -> bool:
        """Whether anything is done beside the cut."""
        stages = (self.quantize, self.heal, self.repair_asked)
        return self.quantize_first or any(one is not None for one in stages)


@dataclass(frozen=True, kw_only=True)
class PruneRequest(Following, Serve, TargetOptions, Request):
    """Which model, how much of it goes, on which texts, and how hard to look.

    Args:
        model: Hugging Face id, local folder, or ``"reference"``, the model that ships inside.
        remove: Players to cut; or give ``keep``, or ``ratio`` (the fraction of players removed).
        players: What may be cut: each ``"layer"``, its ``"attention"`` or ``"mlp"`` (feed-forward)
            block, or either of them (``"sublayer"``); ``"layer+block"``: whole layers first, then
            single blocks within the same parameters.
        method: How the coalition is chosen.
        revision: Branch, tag or commit of a model on the Hub.
        calibration: Text that decides: a file, a Hub data set, a mixture, or ``"stdlib"``.
        held_out: Text that judges; without it, whole documents are set aside.
        sequences: Calibration sequences; None is 10 for the paper's method and 32 for the others.
        length: Tokens of each; None is 128, or the model's context where that is shorter.
        budget: Most distinct coalitions to evaluate; ``time`` bounds the search in seconds.
        lock: Layers (0-based) that stay whatever happens, with all their blocks.
        device: ``"auto"``, a device, or several of one type: ``"cuda:0,cuda:1"``, ``"cuda:all"``.
        dtype: Of the search; the checkpoint keeps its own.
        study: Name to resume a study by; one name, one set of settings.
        state_memory: Bytes that live states may take; by default half of what is free.
        stream: Read the layers from disk one after the other; the model is never whole in memory.
        utility: A mix of tasks and text measures instead of the loss: ``"piqa=0.5,kl=0.5"``.
        tasks_dir: Folder of local tasks; ``task_items``, how many first items of each are asked.
        target_params: Parameters to keep at most: a number, or a fraction below one of them all.
        target_bytes: The same for the bytes of the weights on disk.
        target_speedup: How many times faster a forward pass over the calibration texts becomes.
        quantize: A scheme to quantize in after the cut, or before it with ``quantize_first``.
        heal: Steps of healing after the cut.
        repair: Name of a repair after the cut, ``"auto"`` or ``"none"``; None is ``"auto"`` after
            guided search on whole layers in memory, and ``"none"`` elsewhere.
        serve: Runtimes of which all must read the cut model rightly: ``("vllm", "llama.cpp")``.
        finalists: ``"healed"`` decides between finalists by what they lose after a short healing.

    >>> request = PruneRequest("reference", remove=4, budget=512)
    >>> request.command()
    'coterie prune reference --remove 4 --budget 512'
    """

    VERB = "prune"

    # A checkpoint will be written, so models that could not be saved are refused at once.
    cuts: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        if not self.says_how_much():
            raise UserError(
                "how much to cut is not said: give --remove N, --keep N, --ratio R or a --target"
            )
        super().check()
        if self.serve and self.goes_on_among_blocks:
            raise UserError(
                f"--serve asks other things of layers than of blocks: give --players layer or"
                f" --players sublayer, not {self.players}"
            )
        self._check_blocks()
        if self.utility is not None and self.players != "layer":
            raise UserError(f"--utility cuts whole layers: leave out --players {self.players}")
        # A utility is one number for all texts, so parts of the texts have no value of their own.
        if self.utility is not None and SEARCH_METHODS[self.method].asks_parts:
            whole = ", ".join(name for name, one in SEARCH_METHODS.items() if not one.asks_parts)
            raise UserError(
                f"--method {self.method} judges on parts of the texts, and a --utility needs all of"
                f" its items: give one of --method {whole}"
            )
        if self.stream and self.target_speedup is not None:
            raise UserError("--target-speedup times a model in memory: leave out --stream")
        if self.finalists is not None:
            self._check_finalists()

    def _check_finalists(self) -> None:
        """Refuse a short healing of finalists where there are none, or none that can learn."""
        if SEARCH_METHODS[self.method].ranks:
            raise UserError(f"--finalists {self.finalists}: --method {self.method} has none")
        for option, given in (
            ("--utility", self.utility is not None),
            ("--stream", self.stream),
            (f"--players {self.players}", self.players != "layer"),
            (f"--dtype {self.dtype}", self.dtype not in ("auto", "float32")),
        ):
            if given:
                raise UserError(
                    f"--finalists {self.finalists} teaches whole layers in memory in float32, by"
                    f" their loss on text: leave out {option}"
                )

    def _check_blocks(self) -> None:
        """Refuse to go on among blocks where nobody could."""
        if self.goes_on_among_blocks and self.cluster is not None:
            raise UserError(
                f"--players {self.players} plays two kinds of players, and the workers of a cluster"
                " hold one: leave out --cluster"
            )
        if self.goes_on_among_blocks and not SEARCH_METHODS[self.method].goes_on:
            able = ", ".join(name for name, one in SEARCH_METHODS.items() if one.goes_on)
            raise UserError(
                f"--players {self.players} goes on from an answer of its own search, and --method"
                f" {self.method} stays what was published: give --method {able}"
            )

    @property
    def usual_repair(self) -> str | None:
        """What mends a cut is done unasked; a published method stays as it was published."""
        return "auto" if self._plays_repaired and not self.quantize_first else None

    @property
    def searches_repaired(self) -> bool:
        """Whether coalitions are compared by what they lose once repaired."""
        return self.repair_asked is not None and self._plays_repaired

    @property
    def _plays_repaired(self) -> bool:
        """Whether the method can be played on repaired coalitions: whole layers, all in memory."""
        if self.utility is not None or self.stream:
            return False
        method = SEARCH_METHODS.get(self.method)
        return self.players == "layer" and method is not None and method.goes_on

    def cut_alone(self) -> "PruneRequest":
        """The same cut, with nothing before or after it."""
        # What follows is recorded by its own stages, not by that of the cut; the search is to know
        # of the repair all the same.
        return replace(self, quantize=None, quantize_first=False, heal=None)
