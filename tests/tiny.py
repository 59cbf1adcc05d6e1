"""Tiny real models on disk, built in memory from transformers' own configs; no network, no GPU."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

N_LAYERS = 6


def words(n_documents: int = 24, n_words: int = 160) -> list[str]:
    """Documents of a made-up language with some regularity; always the same."""
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    documents = []
    for document in range(n_documents):
        state, out = document + 1, []
        for _ in range(n_words):
            state = (state * 1103515245 + 12345) % 2**31
            first, second = state % 60, (state // 60 + document) % 17
            out.append(syllables[first] + syllables[second])
        documents.append(" ".join(out) + ".")
    return documents


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with BOS and EOS."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(words(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def save_llama(folder: Path, *, n_layers: int = N_LAYERS, dtype: torch.dtype = torch.bfloat16):
    """A random Llama whose layers do something, with its tokenizer, as a checkpoint."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_text(path: Path, documents: list[str] | None = None) -> Path:
    """A text file with one document between separators."""
    path.write_text("<|endoftext|>".join(documents or words()), encoding="utf-8")
    return path
