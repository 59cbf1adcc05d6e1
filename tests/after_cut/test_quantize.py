"""A quantized checkpoint reads back as it was in memory, or does not exist."""

import pytest
import torch

from coterie.errors import VerificationError
from coterie.models.files.sources import resolve
from coterie.quantization import checkpoint as quantized
from coterie.quantization.schemes import SCHEMES, SchemeError, find_scheme
from coterie.verbs.after_cut.quantize import quantize
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.prune.after import After
from coterie.verbs.prune.request import PruneRequest


def asked(model, text, scheme="int8"):
    return QuantizeRequest(str(model), scheme=scheme, calibration=str(text), device="cpu")


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic", "nf4"])
def test_what_is_saved_is_what_was_quantized(scheme, cut, text, tmp_path):
    pytest.importorskip(SCHEMES[scheme].library, reason="the scheme's library is not installed")
    done = quantize(asked(cut, text, scheme), output=tmp_path / "out")
    assert done.part.reloaded.max_logit_difference == 0
    assert done.part.bytes_after < done.part.bytes_before
    assert str(tmp_path) not in (tmp_path / "out" / "coterie.json").read_text()
    with pytest.raises(SchemeError, match="quantized already"):
        quantize(asked(tmp_path / "out", text, scheme), output=tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_a_difference_leaves_nothing(cut, text, tmp_path, monkeypatch):
    pytest.importorskip("torchao", reason="torchao is not installed")
    plain = quantized._logits
    answers = iter([torch.ones(()), torch.zeros(())])
    monkeypatch.setattr(quantized, "_logits", lambda model, ids: plain(model, ids) + next(answers))
    with pytest.raises(VerificationError, match="logits differ"):
        quantize(asked(cut, text), output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_device_that_cannot_names_what_can():
    with pytest.raises(SchemeError, match="on cpu there is int8, int8-dynamic"):
        find_scheme("int4", "cpu")
    with pytest.raises(SchemeError, match="there is int8"):
        find_scheme("int3", "cpu")


def test_a_folder_that_is_no_model(tmp_path, text):
    from coterie.errors import ModelError

    pytest.importorskip("torchao", reason="torchao is not installed")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="not a Hugging Face checkpoint"):
        quantize(asked(tmp_path / "empty", text), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_first_needs_a_scheme():
    with pytest.raises(SchemeError, match="--quantize int8"):
        After(quantize_first=True).check(PruneRequest("reference", remove=1, device="cpu"))


def test_the_weights_of_a_plain_checkpoint_are_plain(whole):
    quantized.check_plain(resolve(str(whole)))
