"""What a worker must have in common with the driver, so that its answers are the driver's own."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn
from transformers import PreTrainedModel

from coterie.models.loaded.load import attention_of
from coterie.models.loaded.stack import Stack

_PACKAGES = ("coterie", "torch", "transformers")


@dataclass(frozen=True)
class Passport:
    """Everything an observation depends on but the question.

    Attributes:
        files: What identifies the checkpoint: a commit of the Hub, or a hash of its files.
        weights: A checksum of the weights in memory; of their names alone where they are on disk.
        dtype: What is computed in.
        device: Kind of device.
        attention: Implementation of attention.
        players: Where the players are, and of which kind.
        versions: Of what computes.
    """

    files: str
    weights: str
    dtype: str
    device: str
    attention: str
    players: str
    versions: Mapping[str, str]

    def difference(self, other: "Passport") -> str | None:
        """The first thing in which another differs, in words; None where nothing does."""
        mine, theirs = self._flat(), other._flat()
        for name, value in mine.items():
            if theirs[name] != value:
                return f"{name} is {theirs[name]}, and the driver's is {value}"
        return None

    def _flat(self) -> dict[str, str]:
        whole = asdict(self)
        versions = whole.pop("versions")
        # Versions first: where they differ, whatever else does may follow from it.
        return {**{f"version of {name}": versions[name] for name in _PACKAGES}, **whole}


def passport(files: str, model: PreTrainedModel, stack: Stack, device: str) -> Passport:
    """What a model, as it was opened here, has in common with its like elsewhere.

    Args:
        files: What identifies the checkpoint.
        model: The model; without weights where these are read from disk.
        stack: Its players.
        device: Kind of device.
    """
    return Passport(
        files=files,
        weights=checksum(model),
        dtype=str(model.dtype).removeprefix("torch."),
        device=device,
        attention=attention_of(model),
        players=f"{stack.n_players} of {stack.path}, {stack.players}",
        versions=computing_versions(),
    )


def computing_versions() -> dict[str, str]:
    """Versions of the packages that compute."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def checksum(model: nn.Module) -> str:
    """A hash over every tensor of a model: its name, form, and the sum of its bits and places.

    It is taken on the device, at the speed of its memory; tensors without data are left out.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.device.type == "meta":
            continue
        # Packed tensors of quantizers have bits of their own: their files are compared instead.
        plain = type(tensor) in (torch.Tensor, nn.Parameter)
        head = f"{name} {tuple(tensor.shape)} {tensor.dtype}"
        total.update(f"{head} {_bits(tensor) if plain else ''}\n".encode())
    return total.hexdigest()[:16]


def _bits(tensor: torch.Tensor) -> tuple[int, int]:
    """Sum of all bytes of a tensor, and the same weighted by place, modulo 2^63."""
    plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    sums = [0, 0]
    # In pieces: eight bytes for each of the tensor's would not fit beside a large one.
    for start in range(0, len(plain), 1 << 24):
        piece = plain[start : start + (1 << 24)].to(torch.int64)
        places = torch.arange(1, len(piece) + 1, device=piece.device) % 65521
        sums[0] += int(piece.sum())
        sums[1] += int((piece * places).sum()) + start
    return sums[0] % 2**63, sums[1] % 2**63
