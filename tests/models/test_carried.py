"""What goes into a checkpoint beside its weights is what belongs there, by a list of names."""

import json
import shutil

import pytest

from coterie.errors import ModelError
from coterie.models.cutting.write import carry
from coterie.models.files.carried import belongs, carried_files

STRAY = (
    *("diary.txt", "training_data.jsonl", "trainer_state.json", "events.out.tfevents.1", "env"),
    *("optimizer.pt", "notes.md", "secrets.json", ".env", "train.py", "run.sh", "dict.json"),
    *("adapter_config.json", "pytorch_model.bin.index.json", "training_args.bin", "log.model"),
    *("LICENSE_KEYS.json", "NOTICE-draft.key", "tokens", "config.json.bak", "vocab.txt.orig"),
)
PARTS = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model"),
    *("special_tokens_map.json", "added_tokens.json", "spiece.model", "qwen.tiktoken"),
    *("generation_config.json", "chat_template.jinja", "preprocessor_config.json", "tekken.json"),
    *("processor_config.json", "LICENSE", "LICENSE.txt", "NOTICE.md", "USE_POLICY.md", "COPYING"),
    "additional_chat_templates/tool_use.jinja",
)


@pytest.mark.parametrize("name", STRAY)
def test_a_stray_file_stays_behind(name):
    assert not belongs(name)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_checkpoint_goes_along(name):
    assert belongs(name)


def test_a_folder_is_carried_by_names_alone_and_told(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    for name in ("diary.txt", "train.py", ".env", "checkpoint-10/tokenizer.json", PARTS[-1]):
        (whole / name).parent.mkdir(exist_ok=True)
        (whole / name).write_text("private")
    (tmp_path / "cut").mkdir()
    carried, left = carry(whole, tmp_path / "cut")
    there = {
        file.relative_to(tmp_path / "cut").as_posix() for file in (tmp_path / "cut").rglob("*")
    }
    assert set(carried) == there - {"additional_chat_templates"}
    assert PARTS[-1] in carried
    assert {"diary.txt", "train.py", ".env", "checkpoint-10"} <= set(left)


def test_python_goes_along_if_the_model_names_it_or_it_is_imported_by_such(tmp_path):
    table = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "far/repo--far.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": table}))
    table = {"AutoTokenizer": ["tokenization_own.Own", None]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": table}))
    codes = {
        "configuration_own": "from .shared import a\nfrom . import more",
        "tokenization_own": "import os",
        "shared": "    from .deep import (\n  a, b)\nfrom .configuration_own import Own",
        "more": "",
        "deep": "",
        "far": "",
        "train": "from .shared import a",
        "setup": "",
    }
    for name, code in codes.items():
        (tmp_path / f"{name}.py").write_text(code)
    found = {name for name in carried_files(tmp_path) if name.endswith(".py")}
    expected = ("configuration_own", "tokenization_own", "shared", "more", "deep")
    assert found == {f"{name}.py" for name in expected}


def test_a_file_too_large_to_belong_is_left(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("coterie.models.files.carried.BYTES_CARRIED", 10)
    (tmp_path / "tokenizer.json").write_text("x" * 11)
    assert carried_files(tmp_path) == ()


def test_a_licence_that_is_a_link_to_another_file_elsewhere_is_refused(tmp_path):
    model, far = tmp_path / "model", tmp_path / "far"
    for folder in (model, far, tmp_path / "blobs"):
        folder.mkdir()
    for file in (far / "id_rsa", far / "tokenizer.json", tmp_path / "blobs" / "d1ge57"):
        file.write_text("content")
    # The Hub's cache, and a folder of links to another checkpoint.
    (model / "NOTICE").symlink_to(tmp_path / "blobs" / "d1ge57")
    (model / "tokenizer.json").symlink_to(far / "tokenizer.json")
    assert carried_files(model) == ("NOTICE", "tokenizer.json")
    (model / "LICENSE").symlink_to(far / "id_rsa")
    with pytest.raises(ModelError, match="LICENSE of 'model' is a link to id_rsa"):
        carried_files(model)
