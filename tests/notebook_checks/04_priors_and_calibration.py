"""Checks of the numbers in the notebook 04_priors_and_calibration.ipynb; each block runs after the cell that it names."""

# %% after prior-draws
shares = [values[:, near].sum(1).mean() * step for values in curves.values()]
assert shares[1] > 0.9
assert shares[2] < 0.5
assert shares[2] < shares[0] < shares[1]

# %% after sensitivity
small = (factors > 0.3) & (factors < 3)
wide = sds[30].argmax()  # this component holds two thirds of the galaxies, which determine its width
assert np.ptp(np.log(sds[small]), axis=0).max() > np.ptp(np.asarray(modes.means)[small, :, 0], axis=0).max() / 10
assert (np.delete(sds[-1] / sds[30], wide) > 2).all()
assert sds[-1, wide] < 1.5 * sds[30, wide]

# %% after calibrate
# the probability that a correct method fails is at most 0.01 over all quantities together
assert found["gibbs"].passed
assert not found["laplace"].passed
assert not found["gibbs with a bug"].passed
assert "means[0,0]" in [row.name for row in found["gibbs with a bug"].rows if not row.inside]

# %% after coverage-plot
assert abs(mean["gibbs"] - 0.9) < 0.04  # the Monte Carlo error of the average is below 2 %
assert mean["EM"] < 0.87
assert mean["laplace"] < 0.88
