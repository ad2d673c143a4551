"""Data with missing values, measurement noise, partly known labels and limits."""
