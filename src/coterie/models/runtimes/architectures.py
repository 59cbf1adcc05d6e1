"""Architectures that runtimes have classes for, by the names in config.json, as data.

Read from the registries of the releases in `docs/runtimes.md`, those that Coterie cuts, by the
alphabet. Extend when a runtime learns one.
"""

_BOTH = """
AfmoeForCausalLM ApertusForCausalLM BloomForCausalLM CohereForCausalLM Cohere2ForCausalLM
DbrxForCausalLM DeciLMForCausalLM DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM
Ernie4_5ForCausalLM Ernie4_5_MoeForCausalLM ExaoneForCausalLM Exaone4ForCausalLM FalconForCausalLM
FalconH1ForCausalLM FalconMambaForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM
Gemma3nForCausalLM Gemma4ForCausalLM Glm4ForCausalLM Glm4MoeForCausalLM GPT2LMHeadModel
GptOssForCausalLM GraniteForCausalLM GraniteMoeForCausalLM GraniteMoeHybridForCausalLM
InternLM2ForCausalLM InternLM3ForCausalLM JambaForCausalLM Lfm2ForCausalLM Lfm2MoeForCausalLM
LlamaForCausalLM Llama4ForCausalLM MambaForCausalLM Mamba2ForCausalLM MiniCPM3ForCausalLM
MistralForCausalLM MixtralForCausalLM NemotronForCausalLM NemotronHForCausalLM OlmoeForCausalLM
Phi3ForCausalLM PhiMoEForCausalLM Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen3ForCausalLM
Qwen3MoeForCausalLM Qwen3NextForCausalLM Qwen3_5ForCausalLM StableLmForCausalLM
"""
_BY_TRANSFORMERS = """
ArceeForCausalLM GlmForCausalLM GPTBigCodeForCausalLM GPTNeoXForCausalLM OlmoForCausalLM
Olmo2ForCausalLM Olmo3ForCausalLM PhiForCausalLM SeedOssForCausalLM SmolLM3ForCausalLM
Starcoder2ForCausalLM
"""
_CONVERTED = """
BaichuanForCausalLM BambaForCausalLM Dots1ForCausalLM MPTForCausalLM SmallThinkerForCausalLM
"""
_SERVED = """
GPTJForCausalLM MiniMaxM2ForCausalLM OlmoHybridForCausalLM OPTForCausalLM Zamba2ForCausalLM
"""
GGUF = frozenset((_BOTH + _BY_TRANSFORMERS + _CONVERTED).split())
"""Those that llama.cpp's convert_hf_to_gguf.py reads."""

VLLM_BY_TRANSFORMERS = frozenset(_BY_TRANSFORMERS.split())
"""Those that vLLM runs by the modelling code of transformers."""

VLLM = frozenset((_BOTH + _SERVED).split()) | VLLM_BY_TRANSFORMERS
"""Those that vLLM runs, the others by classes of its own."""
