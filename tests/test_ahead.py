"""ahead: programs are compiled in another thread, once, and the ordinary call finds them."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import ahead

SEEN = []  # names of the threads that compiled something, as it happens


def listen(event, duration, **_):
    """Stays for good: an older jax cannot forget a single listener."""
    if event == "/jax/core/compile/backend_compile_duration":
        SEEN.append(threading.current_thread().name)


jax.monitoring.register_event_duration_secs_listener(listen)


@pytest.fixture
def compilations():
    """Names of the threads that compile something during one test."""
    SEEN.clear()
    return SEEN


def double(x, *, times):
    """Something to compile."""
    return x * 2**times


def test_the_call_finds_the_program(compilations):
    """Started from shapes alone, statics included: compiled aside and no more."""
    jitted, x = jax.jit(double, static_argnames="times"), np.arange(3, dtype=np.float32)
    jax.block_until_ready(jnp.asarray(x))
    compilations.clear()
    ahead.start(jitted, jax.ShapeDtypeStruct(x.shape, x.dtype), times=3)
    ahead.start(jitted, x, times=3)  # the same: nothing to do
    found = ahead.call(jitted, jnp.asarray(x), times=3)
    assert found.tolist() == [0, 8, 16]
    assert len(compilations) == 1
    assert compilations[0].startswith("jaxgmm-compile")


def test_a_call_that_was_not_started(compilations):
    """Another shape, another static, or no start at all: an ordinary call."""
    jitted = jax.jit(double, static_argnames="times")
    ahead.start(jitted, np.ones(3, np.float32), times=1)
    assert ahead.call(jitted, np.ones(4, np.float32), times=1).tolist() == [2, 2, 2, 2]
    assert ahead.call(jitted, np.ones(3, np.float32), times=2).tolist() == [4, 4, 4]
    assert threading.current_thread().name in compilations
