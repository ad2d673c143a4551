"""Checks of the numbers in the notebook 09_several_modes.ipynb; each block runs after the cell that it names."""

# %% after galaxies-em
assert len(objectives) > 1

# %% after galaxies-smc
assert float(found.mass[0]) > 0.9
assert abs(float(found.objective[0]) - objectives.max()) < 0.3  # the best optimum of EM holds the posterior

# %% after square
assert float(nuts.stats["rhat"]) < 1.02  # the chains agree with each other

# %% after square-smc
assert comparison.samplers["nuts"].verdict.word == "other modes"
assert abs(float(found.mass[0] - found.mass[1])) < 5 * np.hypot(*np.asarray(found.mass_error[:2]))

# %% after combined
share = float((both.stats["mode"] == 0).mean())
assert abs(share - float(two.mass[0] / two.mass.sum())) < 0.01
assert np.std(density["both modes"]) > 1.3 * np.std(density["NUTS at EM's mode"])
