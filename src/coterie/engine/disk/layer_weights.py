"""Weights read from a checkpoint's files one layer at a time, the next while this one computes.

Only two layers are ever in memory: one as it lies on disk, being read, and one as it computes.
Both live in buffers that are used again for every layer. A GPU has room for two: the next layer is
copied there, by the thread that read it and on a stream of its own, while this one computes.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from transformers import PreTrainedModel

from coterie.engine.disk.gpu_copies import copies_to
from coterie.engine.disk.parameters import DiskNames, Place, find_places
from coterie.engine.disk.spill import read_fully
from coterie.engine.parts.layers import NotReplayable, leading
from coterie.errors import ModelError
from coterie.models.files.shards import DTYPES
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry
from coterie.models.loaded.routing import Carried, Forward, patched
from coterie.models.loaded.stack import Stack

ALIGNMENT = 64


@dataclass
class Traffic:
    """What reading took. Waiting is the part of reading that computing did not hide."""

    bytes_read: int = 0
    seconds_reading: float = 0.0
    seconds_waiting: float = 0.0
    seconds_converting: float = 0.0

    @property
    def overlap(self) -> float:
        """Share of the reading that computing hid."""
        return 1 - self.seconds_waiting / max(self.seconds_reading, 1e-9)


class _Enough(Exception):
    """The last layer has been seen."""


class ShardedWeights:
    """Brings weights from a checkpoint into an empty model, layer by layer.

    Args:
        source: The checkpoint.
        model: From `empty_model`.
        stack: Its layers.
        device: What to compute on.

    Attributes:
        carried: How state travels through each layer.
        last_dtype: Of the state that the last layer returns; it may be wider than the weights'.
        traffic: What reading took so far.

    Raises:
        ModelError: The names or kinds of tensors on disk are not those of the model.
    """

    def __init__(
        self,
        source: Source,
        model: PreTrainedModel,
        stack: Stack,
        device: torch.device,
    ) -> None:
        self.traffic = Traffic()
        self.carried: list[Carried] = []
        self.last_dtype = model.dtype
        self._model, self._device = model, device
        self._places = places = find_places(source, model)
        self._instead: dict[str, Tensor] = {}  # by their names on disk: tied ones have one
        inside = f"{stack.path}."
        self._outside = {n: p for n, p in places.items() if not n.startswith(inside)}
        self._layers = [
            [p for n, p in places.items() if n.startswith(f"{inside}{layer}.")]
            for layer in range(stack.n_players)
        ]
        # One buffer serves all layers, so it is as large as the largest of them.
        self._raw_bytes = max(
            sum(_padded(p.entry.n_bytes) for p in places) for places in self._layers
        )
        self._ready_bytes = max(sum(_padded(p.n_bytes) for p in places) for places in self._layers)
        self._raw = self._ready = torch.empty(0, dtype=torch.uint8)
        self._fill_buffers(source)
        self._current: int | None = None
        # One thread: two reads at once would share the disk and fill the same buffer.
        self._copies = copies_to(device)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._coming: tuple[int, Future[None]] | None = None

    @property
    def layer_bytes(self) -> int:
        """Bytes of all layers on disk: what one pass reads at least."""
        return sum(place.entry.n_bytes for layer in self._layers for place in layer)

    @property
    def opening_bytes(self) -> int:
        """Bytes that weights take at most before the first pass, while the model is examined."""
        head = self._model.get_output_embeddings()
        before = [place for place in self._outside.values() if place.owner is not head]
        two_layers = self._raw_bytes + self._ready_bytes
        return max(_loaded_bytes(before) + two_layers, self.peak_bytes)

    @property
    def peak_bytes(self) -> int:
        """Bytes that weights take at most in a pass: two layers, or what lies outside of them."""
        outside = list(self._outside.values())
        converted = [place.entry.n_bytes for place in outside if place.converted]
        two_layers = self._raw_bytes + self._ready_bytes
        return max(two_layers, _loaded_bytes(outside) + max(converted, default=0))

    def hold(self, layer: int, following: int | None = None) -> None:
        """Have the weights of ``layer`` ready, and begin to read those of the one that follows."""
        if layer == self._current:
            return
        self.release()
        self._make_buffers()
        self._await(layer)
        self._current = layer  # from here on `release` lets go of it
        try:
            self._put(layer)
        except BaseException:  # Ctrl-C among others: half a layer is none
            self.release()
            raise
        following = layer + 1 if following is None else following
        if following < len(self._layers):
            self._coming = (following, self._reader.submit(self._read, following))

    def release(self) -> None:
        """Take the weights out of the layer that has them; their buffer is used again."""
        if self._current is not None:
            for place in self._layers[self._current]:
                place.owner._parameters[place.name] = place.empty  # type: ignore[assignment]
            if self._copies is not None:
                self._copies.used()
        self._current = None

    def forget(self) -> None:
        """Give the buffers back; the next `hold` makes new ones."""
        self.release()
        if self._coming is not None:
            wait([self._coming[1]])  # its result, or its error, is not needed any more
        self._coming = None
        self._raw = self._ready = torch.empty(0, dtype=torch.uint8)

    def change(self, name: str, value: Tensor) -> None:
        """Give a parameter another value than it has on disk, now and whenever it is brought in.

        Args:
            name: What the model calls it.
            value: Of its shape and dtype, wherever it lies; it is kept, and copied from there.
        """
        place = self._places[name]
        self._instead[place.entry.name] = value
        here = place.owner._parameters[place.name]
        if here is not None and not here.is_meta:
            here.data.copy_(value)

    def change_nothing(self) -> None:
        """Bring in from now on what is on disk."""
        self._instead = {}
        self.release()  # what is here may be changed: it is read again

    @contextmanager
    def changed(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, some parameters have these values instead of those on disk."""
        for name, value in values.items():
            self.change(name, value)
        try:
            yield
        finally:
            self.change_nothing()

    def beginning(self) -> AbstractContextManager[None]:
        """A context in which the weights before the first layer are in memory, without the head."""
        head = self._model.get_output_embeddings()
        return self._outside_layers(lambda owner: owner is not head)

    def ending(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        """A context in which the weights of these modules are in memory, and no layer's."""
        self.forget()
        wanted = {id(m) for module in modules for m in module.modules()}
        return self._outside_layers(lambda owner: id(owner) in wanted)

    @contextmanager
    def _outside_layers(self, wanted: Callable[[nn.Module], bool]) -> Iterator[None]:
        places = [
            place
            for place in self._outside.values()
            if wanted(place.owner) and getattr(place.owner, place.name).is_meta
        ]
        made: dict[str, nn.Parameter] = {}  # one for all that are tied together
        for place in places:
            if place.entry.name not in made:
                new = self._instead.get(place.entry.name)
                weight = (
                    self._load(place.entry, place.dtype)
                    if new is None
                    else new.to(self._device, place.dtype, copy=True)
                )
                made[place.entry.name] = nn.Parameter(weight, requires_grad=False)
            place.owner._parameters[place.name] = made[place.entry.name]
        try:
            yield
        finally:
            for place in places:
                place.owner._parameters[place.name] = place.empty  # type: ignore[assignment]

    def learn(self, stack: Stack, tokens: Tensor) -> None:
        """Learn how state travels through the layers; one layer of each class is run for it.

        Raises:
            NotReplayable: The layers do not all run, or one of them runs twice.
        """
        known: dict[type[nn.Module], Carried] = {}
        dtypes: dict[type[nn.Module], torch.dtype] = {}
        learnt: list[Carried] = []

        def watch(layer: int, forward: Forward) -> Forward:
            def run(*args: object, **kwargs: object) -> object:
                kind = type(stack.layers[layer])
                # Only the first layer of a class runs: the others hand on their state alike.
                if kind not in known:
                    self.hold(layer)
                    returned = forward(*args, **kwargs)
                    known[kind] = _carried(returned, kwargs)
                    dtypes[kind] = leading(returned).dtype
                learnt.append(known[kind])
                if layer == stack.n_players - 1:
                    raise _Enough
                return known[kind].through(args, kwargs)

            return run

        layers = {layer: watch(i, layer.forward) for i, layer in enumerate(stack.layers)}
        with self.beginning(), patched(layers), torch.no_grad(), suppress(_Enough):
            self._model(input_ids=tokens.to(self._device), use_cache=False)
        self.forget()
        if len(learnt) != stack.n_players:
            raise NotReplayable("its layers do not run in order, each once, in a forward")
        self.carried, self.last_dtype = learnt, dtypes[type(stack.layers[-1])]

    def _fill_buffers(self, source: Source) -> None:
        """Buffers that the checkpoint holds, such as the routers' biases, are small: read them."""
        names = DiskNames(source, self._model)
        for path, module in self._model.named_modules():
            for name, buffer in module._buffers.items():
                entry = names.find(f"{path}.{name}".removeprefix("."))
                computed = name in module._non_persistent_buffers_set
                if buffer is None or computed or entry is None:
                    continue
                if entry.dtype not in DTYPES:
                    raise ModelError(
                        f"{source.name!r} cannot be streamed: its buffer {entry.name!r} is"
                        f" {entry.dtype}; load it whole"
                    )
                buffer.copy_(self._load(entry, buffer.dtype))
        # Buffers that are computed, such as rotary tables, go to the device with the others.
        for module in self._model.modules():
            for name, own in module._buffers.items():
                module._buffers[name] = None if own is None else own.to(self._device)

    def _make_buffers(self) -> None:
        if len(self._raw):
            return
        # Pinned memory is copied to a GPU without a detour through another buffer.
        pinned = self._device.type == "cuda"
        self._raw = torch.empty(self._raw_bytes, dtype=torch.uint8, pin_memory=pinned)
        halves = 1 if self._copies is None else 2
        self._ready = torch.empty(
            halves * self._ready_bytes, dtype=torch.uint8, device=self._device
        )
        if self._copies is not None:
            self._copies.begin()

    def _put(self, layer: int) -> None:
        """Give the model the layer that has been read, converted."""
        began = perf_counter()
        # On a GPU the thread that read the layer has copied it already.
        here = self._places_for(layer) if self._copies is None else self._copies.arrived
        for place, kept, raw in here:
            if self._copies is None:
                kept.copy_(raw)
            if (new := self._instead.get(place.entry.name)) is not None:
                kept.copy_(new)
            _assign(place, kept)
        if self._copies is not None:
            self._copies.taken()
        self.traffic.seconds_converting += perf_counter() - began

    def _places_for(self, layer: int, half: int = 0) -> list[tuple[Place, Tensor, Tensor]]:
        """Of each parameter of a layer, where it will compute and where it lies as it was read."""
        found, offset, at = [], 0, half * self._ready_bytes
        for place in self._layers[layer]:
            kept = self._ready[at : at + place.n_bytes].view(place.dtype).view(place.entry.shape)
            found.append((place, kept, _view(self._raw, offset, place.entry)))
            offset += _padded(place.entry.n_bytes)
            at += _padded(place.n_bytes)
        return found

    def _await(self, layer: int) -> None:
        """Wait until the layer has been read; a read that failed is tried again at the next call.

        All reads fill the same buffer, so one of another layer has to end first.
        """
        if self._copies is not None:
            self._copies.drain()  # while the GPU computes, nobody waits for a layer
        began = perf_counter()
        if self._coming is not None:
            wait([self._coming[1]])
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == layer:
            coming[1].result()
        else:
            self._read(layer)
        self.traffic.seconds_waiting += perf_counter() - began

    def _read(self, layer: int) -> None:
        began = perf_counter()
        offset = 0
        for place in self._layers[layer]:
            self._read_into(place.entry, self._raw[offset : offset + place.entry.n_bytes])
            offset += _padded(place.entry.n_bytes)
        if self._copies is not None:
            self._copies.bring(self._places_for(layer, self._copies.next_half))
        self.traffic.seconds_reading += perf_counter() - began

    def _load(self, entry: Entry, dtype: torch.dtype) -> Tensor:
        began = perf_counter()
        raw = torch.empty(entry.n_bytes, dtype=torch.uint8)
        self._read_into(entry, raw)
        self.traffic.seconds_reading += perf_counter() - began
        self.traffic.seconds_waiting += perf_counter() - began
        return _view(raw, 0, entry).to(self._device, dtype)

    def _read_into(self, entry: Entry, raw: Tensor) -> None:
        try:
            with entry.file.open("rb", buffering=0) as stream:
                stream.seek(entry.start)
                read = read_fully(stream, raw)
                if hasattr(os, "posix_fadvise"):  # we shall not come back to these pages soon
                    advice = os.POSIX_FADV_DONTNEED
                    os.posix_fadvise(stream.fileno(), entry.start, entry.n_bytes, advice)
        except OSError as error:
            raise ModelError(f"{entry.name} cannot be read: {error}") from error
        if read < entry.n_bytes:
            raise ModelError(f"{entry.file.name} ended inside {entry.name}: was it changed?")
        self.traffic.bytes_read += entry.n_bytes


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _loaded_bytes(places: Sequence[Place]) -> int:
    """Bytes of these parameters, one for all that are tied together."""
    return sum({place.entry.name: place.n_bytes for place in places}.values())


def _view(raw: Tensor, offset: int, entry: Entry) -> Tensor:
    """A tensor of the dtype and shape on disk, over bytes of a buffer."""
    return raw[offset : offset + entry.n_bytes].view(DTYPES[entry.dtype]).view(entry.shape)


def _assign(place: Place, tensor: Tensor) -> None:
    place.owner._parameters[place.name] = nn.Parameter(tensor, requires_grad=False)


def _carried(returned: object, kwargs: dict[str, object]) -> Carried:
    leaves, spec = tree_flatten(returned)
    key = "hidden_states" if "hidden_states" in kwargs else 0
    return Carried(spec, (key, *[None] * (len(leaves) - 1)))
