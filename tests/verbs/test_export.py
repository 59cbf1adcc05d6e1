"""`export`: what it refuses, and the files it writes; no runtime is needed for these."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from tests.tiny import save_llama, tokenizer
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from coterie.cli import main
from coterie.models.files.sources import resolve
from coterie.verbs.export.chat_template import frame_of
from coterie.verbs.export.gguf_file import check_file, write_pattern
from coterie.verbs.export.ollama import modelfile
from coterie.verbs.export.result import ExportError

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=6,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
        sliding_window=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        layer_types=["sliding_attention", "full_attention"] * 3,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(home / "gemma3")
    tokenizer().save_pretrained(home / "gemma3")
    save_llama(home / "llama", dtype=torch.float32)
    assert main(["cut", str(home / "llama"), "--layers", "1,3", "--output", str(home / "cut")]) == 0
    return home


def told(capsys):
    out = capsys.readouterr()
    assert len(out.err.strip().splitlines()) == 1
    return out.err


def edited(folder, name, **fields):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{gemma3}", "--to", "gguf"], "--converter PATH"),
        (["{gemma3}", "--to", "ollama"], "tells which layers slide by their number"),
        (["{cut}", "--to", "gguf", "--converter", "nowhere"], "--converter nowhere is not there"),
        (["{cut}", "--to", "gguf", "--output", "x.gguf"], "no convert_hf_to_gguf.py is at hand"),
        (["{cut}", "--to", "mergekit"], "--base FOLDER"),
        (["{cut}", "--to", "mergekit", "--base", "llama"], "neither a folder here nor a name"),
        (["{cut}", "--to", "ollama", "--converter", "x"], "go with --to gguf"),
        (["{cut}", "--to", "vllm-check", "--output", "x"], "writes nothing"),
    ],
)
def test_what_cannot_be_taken_there_is_one_line(home, capsys, arguments, complaint):
    filled = [one.format(gemma3=home / "gemma3", cut=home / "cut") for one in arguments]
    assert main(["export", *filled]) == 2
    assert complaint in told(capsys)


def test_what_is_quantized_or_repaired_is_not_exported(home, tmp_path, capsys):
    changed = tmp_path / "changed"
    shutil.copytree(home / "cut", changed)
    edited(changed, "config.json", quantization_config={"quant_method": "torchao"})
    assert main(["export", str(changed), "--to", "mergekit", "--base", str(home / "llama")]) == 2
    assert "was quantized" in told(capsys)
    assert main(["export", str(changed), "--to", "gguf"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_uncut_file_can_be_cut_itself_where_no_weight_was_changed(home, capsys):
    assert main(["export", str(home / "cut"), "--to", "gguf"]) == 0
    assert "llama-quantize --prune-layers 1,3 FULL.gguf CUT.gguf COPY" in capsys.readouterr().out


def test_a_base_that_is_a_folder_is_named_whole(home, capsys):
    base = ["--base", str(home / "llama")]
    assert main(["export", str(home / "cut"), "--to", "mergekit", *base]) == 0
    assert f'model: "{(home / "llama").resolve()}"' in capsys.readouterr().out


def test_a_python_without_the_binding_is_one_line_before_anything_is_converted(
    home, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("coterie.verbs.export.gguf.convert", lambda *_: pytest.fail("converted"))
    (tmp_path / "convert_hf_to_gguf.py").write_text("")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: libllama.so: no such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    asked = ["export", str(home / "cut"), "--to", "gguf", "--converter", str(tmp_path)]
    assert main([*asked, "--environment", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not run" in told(capsys)
    assert main([*asked, "--environment", str(broken)]) == 2
    assert "does not import xllamacpp: ImportError: libllama.so" in told(capsys)


def test_a_converter_that_fails_is_one_line(home, tmp_path, capsys, monkeypatch):
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise SystemExit('no such model')")
    monkeypatch.setitem(sys.modules, "gguf", SimpleNamespace())
    asked = ["export", str(home / "cut"), "--to", "gguf", "--converter", str(tmp_path)]
    assert main([*asked, "--output", str(tmp_path / "x.gguf")]) == 2
    assert "failed: no such model" in told(capsys)
    assert not (tmp_path / "x.gguf").exists()


def written(file, source, n_layers):
    """A GGUF file with the vocabulary and some tensors of a checkpoint."""
    gguf = pytest.importorskip("gguf")
    from coterie.models.files.tensors import read_tensor

    writer = gguf.GGUFWriter(file, "gemma3")
    writer.add_block_count(n_layers)
    names = sorted(tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([name for name, _ in names])
    for entry in source.entries:
        parts = entry.name.split(".")
        if "layers" in parts:
            renamed = f"blk.{parts[2]}.{'.'.join(parts[3:])}"
            writer.add_tensor(renamed, read_tensor(entry).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_file_is_told_which_layers_slide_and_checked(home, tmp_path):
    source = resolve(str(home / "gemma3"))
    file = written(tmp_path / "x.gguf", source, 6)
    assert "gemma3.attention.sliding_window_pattern" in write_pattern(file, source)
    import gguf

    reader = gguf.GGUFReader(file)
    key = reader.fields["gemma3.attention.sliding_window_pattern"]
    assert key.contents() == [True, False] * 3
    assert len(check_file(file, source)) == 3
    assert "400 tokens, each by the name" in check_file(file, source)[2]
    other = resolve(str(home / "llama"))
    assert write_pattern(file, other) is None  # a model without layers that slide has no such key
    with pytest.raises(ExportError, match="layer 0 does not hold the weights"):
        check_file(file, other)


def test_a_chat_template_is_told_in_the_language_of_ollama(tmp_path):
    words = tokenizer()
    words.chat_template = CHATML
    frame = frame_of(words)
    assert frame.user == ("<|im_start|>user\n", "<|im_end|>\n")
    text = modelfile(tmp_path / "x.gguf", frame, ["</s>", "<|im_end|>"])
    assert text.startswith(f"FROM {tmp_path / 'x.gguf'}\nTEMPLATE")
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    # One that counts its messages says more than what stands around them.
    words.chat_template = "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}"
    assert frame_of(words) is None
    words.chat_template = None
    assert frame_of(words) is None
