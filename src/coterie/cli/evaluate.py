"""`coterie evaluate MODEL…`."""

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Hugging Face ids, local folders or `reference`; the first is compared with.",
        show_default=False,
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="Held-out text, may be given again: `wikitext-2`, `c4`, `ptb`, `stdlib`, a FILE, or "
        "a Hub data set. Default without --tasks: `stdlib` for `reference`, else `wikitext-2`.",
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="NAMES",
        help="Zero-shot tasks of lm-evaluation-harness, or `paper`: boolq, piqa, hellaswag, "
        "winogrande, arc_easy, arc_challenge, openbookqa, anli. Needs coterie[eval].",
    ),
]
TasksDir = Annotated[
    Path | None,
    typer.Option(
        "--tasks-dir",
        metavar="DIR",
        help="Folder of local tasks, which come first and need no network: NAME.jsonl with rows "
        "of the harness's own columns, or `query, choices, gold`; or harness YAML files.",
    ),
]
WindowLength = Annotated[
    int, typer.Option("--length", metavar="TOKENS", help="Tokens of a sequence: 128, 2048, 4096.")
]
Windows = Annotated[
    int, typer.Option("--sequences", metavar="N", help="Most sequences of each text.")
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Task items at a time.")]


def command(
    models: Models,
    text: Text = None,
    tasks: Tasks = None,
    tasks_dir: TasksDir = None,
    limit: o.Limit = None,
    length: WindowLength = 128,
    sequences: Windows = 256,
    bos: o.Bos = "auto",
    batch: Batch = 8,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Score models on held-out text and zero-shot tasks, side by side.

    Prints perplexity and accuracies with standard errors, and for every model after the first the
    paired difference to it. Text is read in consecutive windows of --length tokens that do not
    overlap. Every score is kept in the store and not measured twice; a run that was stopped goes
    on where it was.

    Examples: coterie evaluate reference out;
    coterie evaluate Qwen/Qwen3-0.6B small --text wikitext-2 --length 2048 --tasks paper;
    coterie evaluate reference --tasks piqa --tasks-dir tasks
    """
    from coterie.cli.show import Display, show_with
    from coterie.report.schema.evaluate import Judgement
    from coterie.report.terminal.evaluate import print_judgement
    from coterie.verbs.evaluate.run import EvaluateRequest
    from coterie.verbs.shared.request import Request

    request = EvaluateRequest(
        models=tuple(models),
        texts=tuple(text or ()),
        tasks=o.parse_names(tasks),
        tasks_dir=tasks_dir,
        limit=limit,
        length=length,
        sequences=sequences,
        bos=Request(models[0], bos=bos).bos_policy(),
        batch=batch,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        seed=seed,
    )
    request.check()

    def run(progress: Display) -> Judgement:
        from coterie.verbs.evaluate.run import evaluate

        return evaluate(request, store=store, progress=progress)

    show_with(print_judgement, run, as_json=as_json)
