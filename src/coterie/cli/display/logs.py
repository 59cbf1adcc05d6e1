"""What `--verbose` tells: the loggers under `coterie`, on stderr."""

import logging
import sys


def tell(*, verbose: bool) -> None:
    """Send what the package logs to stderr: everything, or warnings alone."""
    logger = logging.getLogger("coterie")
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    # The root logger's handlers would print every line again.
    logger.propagate = False
    # Replaced, not added to: a second run in one process would say all twice.
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
