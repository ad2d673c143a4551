"""Coverage studies: bias, error and interval coverage of each method, over data sets from a known truth."""
