"""What comparisons, calibrations and coverage studies share."""
