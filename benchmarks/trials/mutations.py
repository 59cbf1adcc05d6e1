"""Files of a checkpoint and texts, mutated by hypothesis, so that what fails can be made small."""

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Keys = tuple[str | int, ...]

CHECKPOINT = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
              "model.safetensors.index.json", "generation_config.json",
              "special_tokens_map.json", "chat_template.jinja")  # fmt: skip
TEXTS = (".txt", ".jsonl", ".csv", ".tsv", ".json", ".txt.gz", ".jsonl.gz", ".parquet", ".md")

_EMPTY = {"model.safetensors.index.json": b'{"metadata": {"total_size": 1}, "weight_map": {}}',
          "generation_config.json": b'{"max_new_tokens": 9, "eos_token_id": [0]}',
          "special_tokens_map.json": b'{"bos_token": "<|endoftext|>"}',
          "chat_template.jinja": b"{% for m in messages %}{{ m.content }}{% endfor %}"}  # fmt: skip

_ODD = (None, True, False, 0, -1, 1, 2, 5, 2**31, 2**63, -(2**63), 10**30, 1.5, -0.0, 1e-320,
        float("nan"), float("inf"), "", "0", "5", "true", "x" * 9_999, "\0", "../../etc/passwd",
        "\ud83d", "/dev/zero", "http://192.0.2.1/x", "llama", "gpt2", "mamba", "int8", "float64",
        "F8_E4M3", "BF16", "I64", [], [1], [None], [[[]]], {}, {"a": None}, ["full_attention"] * 5,
        list(range(300)))  # fmt: skip

_FIELDS = ("num_layers", "n_layer", "layer_types", "auto_map", "quantization_config", "text_config",
           "architectures", "rope_scaling", "rope_parameters", "sliding_window", "torch_dtype",
           "dtype", "tie_word_embeddings", "pad_token_id", "head_dim", "is_encoder_decoder",
           "num_nextn_predict_layers", "chat_template", "added_tokens_decoder", "tokenizer_class",
           "model_max_length", "transformers_version", "base_model_tp_plan", "weight_map",
           "metadata", "__metadata__", "first_k_dense_replace", "mlp_only_layers",
           "max_window_layers", "no_rope_layers", "kv_sharing")  # fmt: skip

_VALUES = st.sampled_from(_ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip

_SCRAPS = st.sampled_from([b"\0", b'"', b"{", b"}", b"[", b"\xff\xfe", b"\xef\xbb\xbf", b",,,",
                           b"\r", b"\n", b"\\u", b"{{", b"{%", b"9" * 5000, b"\xed\xa0\x80",
                           b"NaN", b"<<<<<<< HEAD\n", b"[" * 3000])  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """A file that was changed.

    Attributes:
        name: Of the file; of a text only how it ends.
        content: What is in it now.
        how: What was done, in a few words.
    """

    name: str
    content: bytes
    how: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.how}"


def mutations(model: Path) -> st.SearchStrategy[Mutation]:
    """A mutated file of a model, or a mutated text; three times out of four a file.

    Args:
        model: Folder of the model whose files are mutated.
    """
    return st.one_of(of_files(model), of_files(model), of_files(model), of_texts())


def of_files(model: Path) -> st.SearchStrategy[Mutation]:
    """A mutated file of a model."""
    files = {name: _content(model / name) for name in CHECKPOINT}
    return st.sampled_from(CHECKPOINT).flatmap(lambda name: _mutated(name, files[name]))


def of_texts() -> st.SearchStrategy[Mutation]:
    """A mutated text of one of the kinds that are read."""
    texts = {kind: _text_of(kind) for kind in TEXTS}
    return st.sampled_from(TEXTS).flatmap(lambda kind: _mutated(kind, texts[kind]))


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else _EMPTY[file.name]


def _text_of(kind: str) -> bytes:
    row = "some words to read, and a few more of them: "
    lines = {
        ".jsonl": "".join(json.dumps({"text": f"{row * 4}{i}"}) + "\n" for i in range(60)),
        ".csv": "text,label\n" + "".join(f'"{row * 4}{i}",1\n' for i in range(60)),
        ".tsv": "text\tlabel\n" + "".join(f"{row * 4}{i}\t1\n" for i in range(60)),
        ".json": json.dumps([{"text": f"{row * 4}{i}"} for i in range(60)]),
    }
    if kind == ".parquet":
        return _parquet(row)
    plain = kind.removesuffix(".gz")
    content = lines.get(plain, f"{row * 4}\n\n" * 60).encode()
    return gzip.compress(content, mtime=0) if kind.endswith(".gz") else content


def _parquet(row: str) -> bytes:
    import io

    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [f"{row * 4}{i}" for i in range(60)]}), file)
    return file.getvalue()


def _mutated(name: str, content: bytes) -> st.SearchStrategy[Mutation]:
    in_bytes = _bytes_changed(name, content)
    if name.endswith(".safetensors"):
        return st.one_of(_header_changed(name, content), _header_changed(name, content), in_bytes)
    if name.endswith(".json"):
        return st.one_of(_json_changed(name, content), _json_changed(name, content), in_bytes)
    return in_bytes


def _json_changed(name: str, content: bytes) -> st.SearchStrategy[Mutation]:
    whole = json.loads(content)

    @st.composite
    def changed(draw: Callable[..., object]) -> Mutation:
        new, told = json.loads(content), []
        for _ in range(draw(st.integers(1, 3))):  # type: ignore[call-overload]
            told.append(_one_change(draw, new, whole))
        text = json.dumps(new, ensure_ascii=draw(st.booleans()))  # type: ignore[arg-type]
        return Mutation(name, text.encode("utf-8", "surrogatepass"), "; ".join(told))

    return changed()


def _header_changed(name: str, content: bytes) -> st.SearchStrategy[Mutation]:
    length = struct.unpack("<Q", content[:8])[0]

    def joined(header: Mutation, said: int | None) -> Mutation:
        claimed = len(header.content) if said is None else said
        new = struct.pack("<Q", claimed) + header.content + content[8 + length :]
        how = header.how if said is None else f"{header.how}; its length as {said}"
        return Mutation(name, new, how)

    lengths = st.none() | st.none() | st.sampled_from([0, 1, 7, 2**31, 2**63, 2**64 - 1])
    return st.builds(joined, _json_changed(name, content[8 : 8 + length]), lengths)


def _one_change(draw: Callable[..., object], new: Json, whole: Json) -> str:
    """One place of some depth exchanged, removed, doubled or added."""
    places = _places(whole)
    # Deep files have most places in long lists; half the draws go to the first thousand.
    at = draw(st.sampled_from(places[:1000]) | st.sampled_from(places))
    holder = new
    for key in at[:-1]:  # type: ignore[index]
        try:
            holder = holder[key]  # type: ignore[index,call-overload]
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            return "nothing"
    last = at[-1]  # type: ignore[index]
    how = draw(st.sampled_from(["value", "value", "value", "remove", "add", "rename", "double"]))
    value = draw(_VALUES)
    try:
        if how == "remove":
            del holder[last]  # type: ignore[arg-type,union-attr]
        elif how == "add" and isinstance(holder, dict):
            last = draw(st.sampled_from(_FIELDS))  # type: ignore[assignment]
            holder[last] = value  # type: ignore[index,assignment]
        elif how == "rename" and isinstance(holder, dict):
            holder[f"{last}s"] = holder.pop(last)  # type: ignore[arg-type]
        elif how == "double" and isinstance(holder[last], list):  # type: ignore[index,call-overload]
            holder[last] = holder[last] * 2  # type: ignore[index,call-overload]
        else:
            holder[last] = value  # type: ignore[index,call-overload,assignment]
    except (KeyError, IndexError, TypeError):
        return "nothing"
    return f"{how} {'.'.join(map(str, (*at[:-1], last)))} {repr(value)[:60]}"  # type: ignore[index]


def _places(value: Json, at: Keys = ()) -> list[Keys]:
    """Every place in plain data, the shallow ones first."""
    found: list[Keys] = []
    level: list[tuple[Keys, Json]] = [(at, value)]
    while level and len(found) < 20_000:
        deeper: list[tuple[Keys, Json]] = []
        for keys, node in level:
            for key, part in _parts(node):
                found.append((*keys, key))
                deeper.append(((*keys, key), part))
        level = deeper
    return found


def _parts(node: Json) -> list[tuple[str | int, Json]]:
    if isinstance(node, dict):
        return list(node.items())
    return list(enumerate(node)) if isinstance(node, list) else []


def _bytes_changed(name: str, content: bytes) -> st.SearchStrategy[Mutation]:
    @st.composite
    def changed(draw: Callable[..., object]) -> Mutation:
        data, told = bytearray(content), []
        for _ in range(draw(st.integers(1, 4))):  # type: ignore[call-overload]
            at = int(draw(st.integers(0, len(data))))  # type: ignore[call-overload]
            how = draw(st.sampled_from(["byte", "delete", "insert", "cut off", "repeat"]))
            told.append(f"{how} at {at}")
            if how == "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])  # type: ignore[list-item]
            elif how == "delete":
                del data[at : at + draw(st.integers(1, 64))]  # type: ignore[operator]
            elif how == "insert":
                data[at:at] = draw(_SCRAPS)  # type: ignore[arg-type]
            elif how == "cut off":
                del data[at:]
            else:
                data[at:at] = data[max(0, at - 40) : at]
        return Mutation(name, bytes(data), "; ".join(told))

    return changed()
