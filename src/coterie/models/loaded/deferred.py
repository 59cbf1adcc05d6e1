"""Libraries that transformers imports and most runs never use: imported when they are used.

Transformers imports torchao, a third of its own starting time, for one function that only saves
quantized checkpoints. A stand-in for that one module fetches the real one when it is asked.
"""

import sys
from importlib import import_module
from types import ModuleType

SAVING = "torchao.prototype.safetensors.safetensors_support"
"""The module of torchao that transformers imports when it starts."""


class _Deferred(ModuleType):
    """A module that becomes the real one as soon as anything but its first name is used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # Python asks for these of any module it imports
            raise AttributeError(name)
        return getattr(_real(self), name)


def defer_torchao() -> None:
    """Let transformers start without torchao, where neither of them is imported yet."""
    if any(name in sys.modules for name in ("torchao", "transformers", SAVING)):
        return
    stand_in = _Deferred(SAVING)

    def flatten_tensor_state_dict(*args: object, **kwargs: object) -> object:
        return vars(_real(stand_in))["flatten_tensor_state_dict"](*args, **kwargs)

    vars(stand_in)["flatten_tensor_state_dict"] = flatten_tensor_state_dict
    sys.modules[SAVING] = stand_in


def _real(stand_in: ModuleType) -> ModuleType:
    if sys.modules.get(SAVING) is stand_in:
        del sys.modules[SAVING]
    return import_module(SAVING)
