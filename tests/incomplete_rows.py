"""Incomplete rows that several test modules share: every pattern of four features, noise, labels, and a classic example."""

import itertools

import numpy as np

from helpers import random_data

D = 4
PATTERNS = np.array([*itertools.product([True, False], repeat=D)][:-1])  # every pattern that observes something
X = np.where(PATTERNS, random_data(0, n=len(PATTERNS), d=D), np.nan)
LABELS = np.arange(len(X)) % 4 - 1
ALLOWED = (LABELS[:, None] < 0) | (LABELS[:, None] == np.arange(3))
ROOTS = np.random.default_rng(0).normal(size=(len(X), D, D))
NOISE = ROOTS @ np.swapaxes(ROOTS, 1, 2) / D
VARIANCES = NOISE.diagonal(axis1=1, axis2=2)
DIAGONAL = VARIANCES[:, :, None] * np.eye(D)
# Limits of the first missing value of each row, for covariances of every type: below, above, and between two numbers
FIRST = np.isnan(X) & (np.isnan(X).cumsum(1) == 1)
LIMITS = (
    np.where(FIRST, np.array([-np.inf, 0.3, -0.5])[np.arange(len(X)) % 3, None], -np.inf),
    np.where(FIRST, np.array([0.1, np.inf, 0.7])[np.arange(len(X)) % 3, None], np.inf),
)
# Little & Rubin (2002), table 6.9: sizes of apple crops and percentages of wormy fruits
APPLE = [(8, 59), (6, 58), (11, 56), (22, 53), (14, 50), (17, 45), (18, 43), (24, 42), (19, 39), (23, 38), (26, 30), (40, 27)]
APPLE = np.array([*APPLE, *((size, np.nan) for size in (4, 4, 5, 6, 8, 10))])  # Little & Rubin (2002), table 6.9
