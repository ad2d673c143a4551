"""Checks of the numbers in the notebook 01_em_from_scratch.ipynb; each block runs after the cell that it names."""

# %% after estep-code
assert np.allclose(r[0], [2.97644006e-02, 9.70235407e-01, 1.91912550e-07], rtol=1e-7, atol=0)
assert np.allclose(r[40], [9.64689131e-01, 9.53405294e-03, 2.57768163e-02], rtol=1e-7, atol=0)
assert np.allclose(r[-1], [8.53513721e-02, 2.40396004e-02, 8.90609028e-01], rtol=1e-7, atol=0)
assert np.allclose(r.sum(axis=1), 1)

# %% after colour-plot
blue = e_step(np.array([4.0, 30.0]), weights, means, sds)[0][:, 0]
assert 0.15 < blue[0] < 0.20
assert blue[1].round(2) == 0.87

# %% after mstep-code
assert (np.diff(history) > -1e-9).all()  # EM never decreases the log-likelihood
assert np.isclose(history[-1], -186.1113772)

# %% after jaxgmm-code
assert np.allclose(r_jax, r, rtol=1e-9, atol=0)
assert np.isclose(log_p.sum(), history[0], rtol=1e-12)

# %% after jaxgmm-steps
assert np.allclose(halves.count, r.sum(axis=0))
assert np.allclose(mixture.weights, fitted[0], atol=1e-10)
assert np.allclose(mixture.means[:, 0], fitted[1], atol=1e-10)
assert np.allclose(mixture.covariances[:, 0, 0], fitted[2] ** 2, atol=1e-10)

# %% after jaxgmm-fit
assert bool(fit.converged)
assert np.isclose(fit.log_likelihood, history[-1], atol=1e-4)
assert abs(after).max() < 1e-2 < 1 < abs(before).max()

# %% after sklearn-code
for n in [1, 5, 25]:
    reference, *others = by_hand(n), by_jaxgmm(n), by_sklearn(n)
    for value, centres in others:
        assert np.isclose(value, reference[0], rtol=0, atol=1e-6)
        assert np.allclose(centres, reference[1], rtol=0, atol=1e-6)

# %% after underflow
assert np.isnan(naive).all()
assert np.isclose(careful.sum(), 1)

# %% after several-code
assert (np.diff(curve) > -1e-9).all()
assert np.isclose(curve[-1], -1130.2640, atol=5e-4)  # the published value for two components with full covariances

# %% after several-three
assert bool(geyser.converged)
assert np.isclose(geyser.log_likelihood, curve[-1], atol=1e-4)
assert np.isclose(model.score(faithful) * len(faithful), curve[-1], atol=1e-4)
assert (np.asarray(predict(geyser.mixture, faithful)) == model.predict(faithful)).all()

# %% after membership-code
assert 0.2 < shares[1, 0] < 0.8  # between the components: uncertain
assert shares[2, 1] > 0.999999
assert log_p[2] < lowest - 40

# %% after spike-curve
assert (np.diff(plain[30:]) > 0).all()  # increases without bound
assert 1e-4 < sizes[penalised.argmax()] < 1e-2  # maximum near a thousandth of the data's sd
assert sizes[posterior.argmax()] > 0.05  # maximum at a reasonable size

# %% after spike-fit
assert jaxgmm.Status(int(plain_fit.status)) == jaxgmm.Status.SINGULAR
assert jaxgmm.ComponentStatus(int(default_fit.component_status[0])) == jaxgmm.ComponentStatus.AT_FLOOR
assert bool(prior_fit.converged)
assert np.isclose(prior_fit.log_likelihood, geyser.log_likelihood, atol=1)

# %% after units
for _, ours in by_unit.values():
    assert np.allclose(ours.mixture.weights, geyser.mixture.weights, atol=1e-5)
assert abs(model.weights_ - np.asarray(ours.mixture.weights)).max() > 0.005  # in days, scikit-learn's fit is different

# %% after collinear
assert abs(eigenvalues[0]) < 1e-10 * eigenvalues[-1]
assert same.all()
assert np.allclose(flat_fit.mixture.weights, geyser.mixture.weights, atol=1e-3)
assert (np.asarray(flat_fit.component_status) == jaxgmm.ComponentStatus.AT_FLOOR).all()

# %% after bug1
assert np.diff(wrong_history).min() < -100  # a decreasing log-likelihood reveals the bug
assert (np.diff(right_history) > -1e-9).all()
assert np.isclose(right_history[-1], -1034.0017, atol=1e-3)  # published values for two components
assert np.allclose(right[0], [0.360886, 0.639114], atol=2e-5)
assert np.allclose(right[1], [54.61486, 80.09107], atol=2e-4)
assert np.allclose(right[2], [5.871220, 5.867734], atol=2e-4)

# %% after bug1-units
assert abs(em_bug1(wait / 60, *in_hours, 30)[1] * 60 - wrong[1]).max() > 1
assert np.allclose(em(wait / 60, *in_hours, 30)[1] * 60, right[1])

# %% after bug2
assert np.isclose(corrected(np.tile(wait, 2), w, m, s), 2 * corrected(wait, w, m, s))
assert np.isclose(corrected(wait, *cut), corrected(wait, w, m, s))
assert not np.isclose(log_of_total(np.tile(wait, 2), w, m, s), 2 * log_of_total(wait, w, m, s), rtol=0.1)
assert abs(all_pairs(wait, *cut) - all_pairs(wait, w, m, s)) > 100
assert (np.diff(values["corrected"]) > -1e-9).all()
assert values["log of total"].argmax() == values["all pairs"].argmax() - 11 == 0
assert np.isclose(corrected(wait, w, m, s), log_prob(ours, wait[:, None]).sum())

# %% after bug3
assert (predict_corrected(marker) == np.asarray(predict(screening, marker[:, None]))).all()
assert (predict_bug3(marker) != truth).mean() > 2 * (predict_corrected(marker) != truth).mean()
assert (predict_bug3(marker) != truth).mean() > truth.mean()  # worse than no test at all
assert np.allclose(weighted, w, atol=0.01)
assert not np.allclose(unweighted, w, atol=0.05)

# %% after bug4
assert fit_bug4(x, weights, means, sds)[-1] == 1
assert np.isclose(corrected(x, *fit_corrected(x, weights, means, sds)[:3]), history[-1], atol=1e-5)
assert history[-1] - corrected(x, *fit_bug4(x, weights, means, sds)[:3]) > 7
