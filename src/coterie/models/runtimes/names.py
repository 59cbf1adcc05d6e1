"""The runtimes that are told of, by the names that a user types."""

RUNTIMES = ("transformers", "vllm", "llama.cpp", "mlx", "ollama")
"""Who may load a checkpoint; the order of every table."""
