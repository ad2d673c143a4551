"""Checks of the numbers in the notebook 06_your_own_model.ipynb; each block runs after the cell that it names."""

# %% after book
assert bool(clean.converged)
assert bool(naive.converged)
assert (sds(naive.mixture)[:, 1] > 1.35 * sds(clean.mixture)[:, 1]).all()

# %% after contaminated
assert int(posterior.stats["diverging"].sum()) == 0
assert float(posterior.stats["rhat"]) < 1.05

# %% after which
assert p_error[is_error].mean() > 0.6
assert p_error[~is_error].mean() < 0.06
assert abs(share.mean() - is_error.mean()) < 0.04
assert (abs(mean_sds / sds(clean.mixture) - 1) < 0.25).all()

# %% after influence
for name in values:
    assert np.corrcoef(-influence[name], change[name])[0, 1] > 0.99
    # a common factor of all weights changes neither a mean nor a correlation
    assert abs(influence[name].sum()) < 1e-6

# %% after pull
assert np.isclose(slope[far, 1], seen, rtol=1e-2)

# %% after hyper
assert np.allclose(tangent[1:35], (curve[2:36] - curve[:34]) / (2 * (grid[1] - grid[0])), rtol=0.05)
assert (tangent[10:30] > 3 * full_tangent[10:30]).all()
