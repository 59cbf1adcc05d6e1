"""Silences what libraries print on stderr when they are imported; done here and nowhere else."""

import logging
import warnings

_LOGGERS = ("torchao", "torch.utils._pytree", "bitsandbytes")
_WARNERS = ("bitsandbytes", "torchao")


def silence_imports() -> None:
    """Keep libraries from printing which of their kernels this machine cannot use.

    The package does this when it is imported, because they print it when they are. A logger whose
    level was set by then is left alone.
    """
    # Only where nobody has set a level: a user's own choice stays.
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    for name in _WARNERS:
        warnings.filterwarnings("ignore", module=name)
