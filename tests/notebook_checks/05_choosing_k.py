"""Checks of the numbers in the notebook 05_choosing_k.ipynb; each block runs after the cell that it names."""

# %% after faithful
best = {name: (selection.best.covariance_type, selection.best.num_components) for name, selection in geyser.items()}
cell = geyser["bic"].cells["full", 2]
parameters = jaxgmm.num_parameters(cell.fit.mixture)
assert parameters == 11  # 1 weight, 4 means, 6 covariances
assert np.isclose(cell.criterion, -2 * cell.log_likelihood + parameters * np.log(272), atol=0.01)
assert best["bic"] == ("tied", 3)
assert best["icl"] == ("full", 2)
assert best["aic"][1] > 2

# %% after iris
assert flowers["bic"].best is two
assert flowers["icl"].best.num_components == 2
assert 2 < three.criterion - two.criterion < 10  # BIC prefers two components, but not by much
assert (table["K = 3"].max(1) >= 45).all()  # but three components find the three species
assert (np.sort(table["K = 2"].sum(0)) == [50, 100]).all()  # and two components combine two species

# %% after spikes
assert degenerate[value.argmax()]  # the highest likelihood has a degenerate component
assert len(np.unique(value.round(1))) > 5  # there are many local maxima
assert (np.asarray(chosen.component_status) == jaxgmm.ComponentStatus.OK).all()
assert np.isclose(chosen.log_likelihood, value[~degenerate].max(), atol=0.01)  # the best of the valid fits

# %% after galaxies
assert velocities["bic"].best is cells["full", 3]
assert not any(cell.spike for cell in cells.values())
assert min((cells["tied", k].criterion, k) for k in range(1, 8))[1] == 6
assert (
    np.sqrt(cells["full", 6].fit.mixture.covariances.min()) < 0.05 < 0.2 < np.sqrt(calm.mixture.covariances.min())
)  # no degenerate component

# %% after skew
assert answers["icl"] == 2
assert answers["bic"] >= 3
assert answers["cv"] >= 3
assert answers["aic"] >= 3
