"""Coverage studies, which measure the bias, error and interval coverage of methods on data sets from a known truth."""
