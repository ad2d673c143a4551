"""Evidence: its table, with and without the estimate by bridge sampling."""

import math

import jax.numpy as jnp

from jaxgmm.posterior.evidence.result import Evidence, EvidenceStatus

FIELDS = [jnp.array(v) for v in (-247.1, 0.01, 0.2, 3900.0)]


def test_table():
    """One line for the value, one for bridge sampling, and one for a status other than OK."""
    plain = Evidence(*FIELDS, jnp.array(0))
    assert repr(plain) == "Evidence OK: log p(x) = -247.1000 +- 0.0100 nats, k-hat 0.20, 3900 effective samples"
    both = Evidence(*FIELDS, jnp.array(0), jnp.array(-247.09), jnp.array(0.02))
    assert "the draws: log p(x) = -247.0900 +- 0.0200 nats" in " ".join(repr(both).split())
    unknown = Evidence(*FIELDS, jnp.array(int(EvidenceStatus.MISSED_MODES)), *[jnp.array(math.nan)] * 2)
    assert "Bridge sampling is not available" in repr(unknown)
    assert "start nuts from all modes" in " ".join(repr(unknown).split())
    stacked = Evidence(*[jnp.stack([v, v]) for v in (*FIELDS, jnp.array(0), jnp.array(-247.0), jnp.array(0.02))])
    assert "by bridge sampling" in repr(stacked)
