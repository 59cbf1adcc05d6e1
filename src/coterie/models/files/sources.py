"""From what a user types to a folder of safetensors, known to be whole and of a kind we cut."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from coterie.errors import ModelError
from coterie.foreign import cache_of_code, expanded, foreign
from coterie.models.files.download import download, download_config
from coterie.models.files.fit import check_counts, check_quantization, missing_tensors
from coterie.models.files.json_files import Fields, read_config
from coterie.models.files.kinds import described, is_causal, is_known_type
from coterie.models.files.own_code import is_own_code
from coterie.models.files.places import REFERENCE, check_folder, is_local, reference_folder
from coterie.models.files.tensors import Entry, Header, hash_files, read_header
from coterie.models.files.weights import WeightFiles, find_weights, named_tensors


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk whose files have been checked.

    Attributes:
        name: Hub id, the bare name of a local folder, or ``"reference"``.
        folder: Where the files are.
        revision: Commit of the Hub repository, or None.
        trust_remote_code: Whether the model's own Python files may be run.
    """

    name: str
    folder: Path
    revision: str | None = None
    trust_remote_code: bool = False
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def weights(self) -> WeightFiles:
        """The files that hold the weights, as transformers would find them."""
        return find_weights(self.folder, self.raw_config(), self.name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights, in the order in which they are loaded."""
        return self.weights.files

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """The headers of `files`, in the same order."""
        return tuple(read_header(file) for file in self.files)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every tensor of the checkpoint, in the order of the files; of two of a name the later."""
        entries = [entry for header in self.headers for entry in header.entries]
        last = {entry.name: entry for entry in entries}
        return tuple(entry for entry in entries if last[entry.name] is entry)

    def raw_config(self) -> Fields:
        """The content of config.json, every field as it is in the file.

        Raises:
            ModelError: It cannot be read.
        """
        return read_config(self.folder, self.name)

    def config(self) -> PretrainedConfig:
        """The config of the model, a fresh object each time.

        Raises:
            ModelError: The config's class refuses the file.
        """
        refused = f"the config.json of {self.name!r} cannot be used"
        way_out = "compare it with the one of the published model"
        with foreign(refused, way_out=way_out, kind=ModelError), cache_of_code(self.folder):
            return AutoConfig.from_pretrained(
                self.folder, trust_remote_code=self.trust_remote_code, local_files_only=True
            )

    def fingerprint(self) -> str:
        """What identifies the weights: the Hub commit, or a hash of the config and weight files."""
        if self.revision is not None:
            return f"{self.name}@{self.revision}"
        if "hash" not in self._known:
            self._known["hash"] = hash_files([*self.files, self.folder / "config.json"])
        return f"sha256:{self._known['hash']}"


def resolve(model: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Source:
    """Find the model a user named and check its files, before anything is computed.

    Args:
        model: A Hub id, a local folder, or ``"reference"``.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Allow the model's own Python files to run.

    Raises:
        ModelError: It cannot be found, read, or is not a decoder-only causal language model.
    """
    if model == REFERENCE:
        source = Source(REFERENCE, reference_folder(), None, trust_remote_code)
    elif is_local(model):
        folder = expanded(model).resolve()
        source = Source(folder.name, folder, None, trust_remote_code)
    else:
        source = Source(model, *download(model, revision), trust_remote_code)
    check_folder(source.folder, model)
    if is_own_code(source.folder, source.raw_config()):
        source = replace(source, trust_remote_code=True)  # the package's own, byte by byte
    _check_kind(source)
    _check_weights(source)
    return source


def resolve_config(
    model: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> PretrainedConfig:
    """The config of the model a user named, without its weights where they are not here yet.

    Args:
        model: A name of the Hub, or a folder.
        revision: Branch, tag or commit; None is the newest.
        trust_remote_code: Whether Python files of the checkpoint may be run.

    Raises:
        ModelError: As in `resolve`.
    """
    if model == REFERENCE or is_local(model):
        return resolve(model, revision, trust_remote_code=trust_remote_code).config()
    folder, commit = download_config(model, revision)
    source = Source(model, folder, commit, trust_remote_code)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{model!r} has no config.json: it is not a Hugging Face checkpoint")
    _check_kind(source)
    return source.config()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers would load a folder's weights from, in order.

    Raises:
        ModelError: There are none, or what names them cannot be used.
    """
    return find_weights(folder, read_config(folder, folder.name), folder.name).files


def _check_weights(source: Source) -> None:
    missing = [file.name for file in source.files if not file.is_file()]
    if missing:
        told_by = "its index" if source.weights.index is not None else "its config.json"
        raise ModelError(f"{source.name!r} lacks {missing[0]}, which {told_by} names: download it")
    present = {entry.name for entry in source.entries}  # truncated files are found here
    check_counts(source.config(), source.entries, source.name)
    check_quantization(source.raw_config(), source.entries, source.name)
    if source.weights.index is None:
        return
    # Transformers does not ask the index which tensors there are: what counts is what it lacks.
    absent = sorted(set(named_tensors(source.weights.index, source.name)) - present)
    if absent and (lacking := missing_tensors(source.folder, source.config())):
        named = next((name for name in absent if name in lacking), absent[0])
        raise ModelError(
            f"{source.name!r} lacks the tensor {named}, which its index names"
            f" ({len(absent)} in all): download the weights again"
        )


def _check_kind(source: Source) -> None:
    raw = source.raw_config()
    model_type = raw.get("model_type")
    if "auto_map" in raw and not source.trust_remote_code and not is_known_type(model_type):
        raise ModelError(
            f"{source.name!r} (model type {model_type!r}) needs Python code of its own: read it,"
            " then allow it with --trust-remote-code"
        )
    if not is_known_type(model_type) and find_spec("fla") is not None:
        import_module("fla.models")  # flash-linear-attention registers RWKV-7 and its like
    config = source.config()
    named = raw.get("architectures")
    architectures = list(map(str, named)) if isinstance(named, list) else []
    if not is_causal(config, architectures):
        raise ModelError(
            f"{source.name!r} is a {described(config, architectures)}, not a decoder-only causal"
            " language model: only those have a stack of layers to cut"
        )
