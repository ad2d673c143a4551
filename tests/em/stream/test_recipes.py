"""Test the recipes of the page "Large data": what users compute from batches, and how workers share the E-step."""

import re
from pathlib import Path

import numpy as np
import pytest

import jaxgmm

PAGE = (Path(__file__).parents[3] / "notebooks" / "site" / "docs" / "large_data.md").read_text()
SECTION = PAGE[PAGE.index("## Data on disk") : PAGE.index("## Rows on several devices")]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.S)


def test_sums_over_batches():
    """BIC and labels over batches are those of all rows, and so are EM steps whose moments come from several workers."""
    x = jaxgmm.datasets.load("faithful")
    covariances = np.stack([np.diag([0.1, 30.0])] * 2).astype(np.float32)
    start = jaxgmm.make_mixture(np.float32([0.4, 0.6]), np.float32([[2.0, 55.0], [4.3, 80.0]]), covariances)
    names = {"jaxgmm": jaxgmm, "np": np, "fit": start, "start": start, "batches": jaxgmm.read_batches(x, 136)}
    (workers,) = (code for code in BLOCKS if "concurrent.futures" in code)
    (criteria,) = (code for code in BLOCKS if "bic =" in code)
    exec(criteria, names)
    np.testing.assert_allclose(names["bic"], jaxgmm.bic(start, x), rtol=1e-6)
    np.testing.assert_array_equal(names["labels"], jaxgmm.predict(start, x))
    exec(workers.replace("range(5)", "range(1)"), names)
    expected = jaxgmm.m_step(start, jaxgmm.e_step(start, x))
    np.testing.assert_allclose(names["mixture"].means, expected.means, rtol=1e-5)
    np.testing.assert_allclose(names["mixture"].covariances, expected.covariances, rtol=1e-4)


@pytest.mark.slow
def test_the_section_runs_as_it_stands(tmp_path, monkeypatch):
    """All programs of the section run one after another; complete rows give the same fit as observations."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in BLOCKS:
        exec(code, names)
    assert names["fit"].converged
    np.testing.assert_allclose(names["incomplete"].log_likelihood, names["fit"].log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(names["bic"], jaxgmm.bic(names["fit"], jaxgmm.datasets.load("faithful")), rtol=1e-5)
