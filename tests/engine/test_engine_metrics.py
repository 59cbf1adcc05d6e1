"""Observations are what the definitions say, however the logits are cut into blocks."""

import pytest
import torch
from torch import nn

from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.readings import read_full, read_states

WIDTH, VOCABULARY, TOKENS = 16, 103, 11


def head_of(*, bias=False, scale=1.0, softcap=None, size=1.0):
    torch.manual_seed(0)
    projection = nn.Linear(WIDTH, VOCABULARY, bias=bias)
    with torch.no_grad():
        projection.weight.mul_(size)
    return ProjectionHead((), projection, VOCABULARY, 1.0, scale, softcap)


def by_definition(head, states, whole, targets):
    """The full table of logits, softmax, and sums."""
    mine, theirs = (
        head.logits(s, 0, VOCABULARY).double().log_softmax(dim=-1) for s in (states, whole)
    )
    nll = -mine.gather(1, targets[:, None])[:, 0]
    kl = (theirs.exp() * (theirs - mine)).sum(dim=1)
    return nll, kl, mine.argmax(dim=1) == theirs.argmax(dim=1)


@pytest.mark.parametrize(("tokens", "block"), [(1, 1), (5, 32), (64, 1000)])
@pytest.mark.parametrize(
    "head",
    [head_of(), head_of(bias=True, scale=0.5), head_of(softcap=3.0, size=8.0), head_of(size=600.0)],
    ids=["plain", "bias and scale", "soft cap", "logits beyond the reach of exp"],
)
@torch.no_grad()
def test_readings_are_the_definitions(head, tokens, block):
    torch.manual_seed(1)
    whole = torch.randn(TOKENS, WIDTH)
    states = torch.stack([whole, whole + 0.3 * torch.randn(TOKENS, WIDTH)])
    targets = torch.randint(VOCABULARY, (TOKENS,))
    full = read_full(head, whole, targets, kl=True, tokens=tokens, block=block)
    read = read_states(head, states, targets, full, tokens=tokens, block=block)
    size = head.logits(whole, 0, VOCABULARY).abs().amax()
    for row in range(2):
        nll, kl, agrees = by_definition(head, states[row], whole, targets)
        torch.testing.assert_close(read.nll[row].double(), nll, rtol=1e-6, atol=1e-6 * size)
        torch.testing.assert_close(read.kl[row].double(), kl, rtol=1e-5, atol=4e-6 * size)
        assert torch.equal(read.agrees[row], agrees)
    torch.testing.assert_close(full.nll, read.nll[0], rtol=3e-6, atol=1e-6)


@torch.no_grad()
def test_one_bad_state_spoils_no_other():
    head = head_of()
    states = torch.randn(2, TOKENS, WIDTH)
    targets = torch.zeros(TOKENS, dtype=torch.int64)
    full = read_full(head, states[0], targets, kl=True, tokens=4, block=40)
    alone = read_states(head, states[:1], targets, full, tokens=4, block=40)
    states[1] = torch.nan
    together = read_states(head, states, targets, full, tokens=4, block=40)
    torch.testing.assert_close(together.nll[0], alone.nll[0])
    assert together.nll[1].isnan().all()
