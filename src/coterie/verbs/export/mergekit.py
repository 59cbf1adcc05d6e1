"""`export --to mergekit`: the same cut as a config that stacks layers of the full model."""

from pathlib import Path

from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.lists import passthrough_yaml
from coterie.models.files.download import looks_like_hub_id
from coterie.models.files.sources import Source
from coterie.report.schema.basics import ModelPart
from coterie.report.schema.record import CheckpointRecord
from coterie.verbs.checkpoint_requests import ExportRequest
from coterie.verbs.export.result import Export, ExportError
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import reads_of
from coterie.verbs.outputs.records import read_record

_DONE = {"heal": "healed", "quantize": "quantized", "repair": "repaired"}


def to_mergekit(request: ExportRequest, output: Path | None) -> Export:
    """The config of the cut, refused where mergekit cannot make this checkpoint.

    Args:
        request: The checkpoint, and where mergekit finds the full model.
        output: File for the config; None writes none.

    Raises:
        ExportError: nothing says what was cut, its weights are no longer those of the full model,
            or no name of that model resolves.
    """
    folder = request.folder
    file = None if output is None else OutputFile(output, "--output", reads_of(request))
    record = read_record(folder)
    if record is None or record.cut is None or record.model is None:
        raise ExportError(
            f"'{folder.name}' has no coterie.json that says what was cut: `coterie cut --mergekit` "
            "writes the config along with the cut"
        )
    model, kept = record.model, record.cut.kept
    _check_expressible(folder, record, model)
    source = Source(folder.name, folder)
    found = find_disk_stack(source.entries, source.config())
    # The config speaks of layers by number, so files and record must agree on them.
    if found.n_players != len(kept):
        raise ExportError(
            f"coterie.json keeps {len(kept)} layers, the files hold {found.n_players}: the folder "
            "was changed since"
        )
    dtype = {"BF16": "bfloat16", "F16": "float16"}.get(model.dtype, "float32")
    text = passthrough_yaml(_base(request.base, model), kept, dtype)
    if file is not None:
        # Written aside and renamed, so that an interrupted run leaves no half config.
        file.write(text)
    name = "cut.yml" if file is None else str(file.path)
    checks = (f"{len(kept)} layers in the files, as coterie.json keeps",)
    return Export("mergekit", checks, text, f"mergekit-yaml {name} MERGED")


def _check_expressible(folder: Path, record: CheckpointRecord, model: ModelPart) -> None:
    if model.player_kind != "layer":
        raise ExportError(
            f"'{folder.name}' lacks single {model.player_kind} blocks, and mergekit stacks "
            "whole layers only"
        )
    # A repair that was tried and not applied left the weights as they were.
    done = [
        _DONE.get(one.what, one.what)
        for one in record.after or ()
        if one.repair is None or one.repair.changed
    ]
    if Source(folder.name, folder).raw_config().get("quantization_config"):
        done.append("quantized")
    if done or record.kind == "sparsify":
        what = " and ".join(dict.fromkeys(done)) or "made sparse"
        raise ExportError(
            f"'{folder.name}' was {what}, and mergekit copies layers of the full model as they are:"
            " export the cut as it was before"
        )


def _base(asked: str | None, model: ModelPart) -> str:
    """Where mergekit finds the full model: a folder that is there, or a name of the Hub."""
    named = asked or model.hub_id
    if named is None:
        raise ExportError(
            f"the record names the full model only as '{model.name}', which mergekit would look for"
            " on the Hub: say where it is with --base FOLDER or --base OWNER/NAME"
        )
    if Path(named).is_dir():
        return str(Path(named).resolve())
    # One word alone is more often a folder that is not here than one of the Hub's oldest names.
    if named != model.hub_id and not ("/" in named and looks_like_hub_id(named)):
        raise ExportError(
            f"--base {named} is neither a folder here nor a name of the Hub (owner/name)"
        )
    return named
