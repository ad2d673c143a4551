"""Coverage studies: bias, error and interval coverage of each method, measured on data sets from a known truth."""
