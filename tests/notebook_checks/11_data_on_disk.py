"""Checks of the numbers in the notebook 11_data_on_disk.ipynb; each block runs after the cell that it names."""

# %% after write
assert np.load("survey.npy", mmap_mode="r").shape == (ROWS, D)
assert sum(len(x) for x in batches) == ROWS

# %% after fits
assert all(bool(fit.converged) for fit in fits.values())
passes_of = {name: int(fit.num_iter) + 1 for name, fit in fits.items()}
assert passes_of["accelerate"] < passes_of["plain"]
assert np.ptp([float(fit.log_likelihood) / ROWS for fit in fits.values()]) < 1e-3  # all find the same optimum

# %% after stop
assert passes == 3
assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (again, fits["accelerate"])), strict=True))

# %% after labels
assert sizes.sum() == ROWS
assert np.isclose(total, float(again.log_likelihood), rtol=1e-5)
assert abs(sizes / ROWS - 1 / K).max() < 0.1
