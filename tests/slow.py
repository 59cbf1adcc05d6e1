"""Cases that say again, of one more kind, what another case has said: `make test-all` runs them."""

import pytest


def slow(*values: object) -> object:
    """The values of a case that the gate leaves out, to stay under a quarter of an hour."""
    return pytest.param(*values, marks=pytest.mark.slow)
