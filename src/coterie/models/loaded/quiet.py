"""Third-party noise is silenced here, once."""

import logging
import warnings


def quiet() -> None:
    """Keep libraries from telling on stderr which of their kernels this machine has no use for.

    Call it before they are imported: they tell it then.
    """
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("bitsandbytes", "torchao"):
        warnings.filterwarnings("ignore", module=name)
