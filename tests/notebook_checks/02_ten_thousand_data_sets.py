"""Checks of the numbers in the notebook 02_ten_thousand_data_sets.ipynb; each block runs after the cell that it names."""

# %% after simulate
assert xs.shape == (10_000, 272, 2)
assert np.allclose(xs.mean((0, 1)), truth.weights @ truth.means, rtol=1e-3)

# %% after many
assert fits.mixture.means.shape == (B, 2, 2)
assert bool(fits.converged.all())

# %% after vmap
assert np.allclose(vmapped.mixture.means, fits.mixture.means[:few], rtol=1e-3)
assert np.allclose(vmapped.log_likelihood, fits.log_likelihood[:few], atol=5e-3)

# %% after sampling
for values, _, error in estimates.values():
    assert abs(np.asarray(values, float).std() / error - 1) < 0.1
assert abs(scipy.stats.skew(weight)) < 0.1 < 0.2 < scipy.stats.skew(variance)
assert variance.mean() < float(truth.covariances[0, 1, 1])

# %% after coverage
# with 1000 experiments and a true coverage of 95 %, the result is outside 92.5 % to 97.5 % with probability 1/3000
assert 0.925 < rows["weight"] < 0.975
assert 0.925 < rows["mean waiting time"] < 0.975
assert 0.91 < rows["variance of the waiting time"] < 0.975

# %% after ragged
assert ends[-1] <= len(pool)
assert np.allclose(by_length.mixture.weights[7], alone.mixture.weights, atol=1e-3)
assert np.isclose(by_length.log_likelihood[7], alone.log_likelihood, rtol=1e-4)

# %% after ragged-plot
assert abs(rms / theory - 1)[4:].max() < 0.2  # large samples: the theory is accurate
assert rms[0] > 1.08 * theory[0]  # small samples: larger errors

# %% after pad
assert np.allclose(weights.sum(1), lengths[:3])
assert np.allclose(inside.log_likelihood, by_length.log_likelihood[:3], rtol=1e-4)

# %% after groups
assert (labels == names).all()
assert ml.mixture.means.shape == (300, 2, 1)
assert np.isclose(by_hand.log_likelihood, ml.log_likelihood[17], atol=0.01)

# %% after groups-prior
assert warned(ml).any()
assert not warned(helped).any()
assert floor < rms(helped) < 0.85 * rms(ml)
assert np.median(num_ill[warned(ml)]) < np.median(num_ill)

# %% after timing
assert np.allclose(scores, fits.log_likelihood[:30], atol=0.02)  # both find the same maxima
