"""Fit many data sets by EM in one call.

The data pass through `fit_many` in these stages:

    list of arrays | stack (B, N, D) | rows with group labels | one data set with many starts or weights
        |  input_forms.as_data_sets validates them
    DataSets
        |  DataSets.batches puts data sets of similar length into one bucket, and cuts each bucket into batches
    Batch, Batch, ...: the data sets of a batch are padded to the same length, so that few programs are compiled
        |  threads.map_threads runs several batches at the same time on a CPU
    batched_loop.fit_batch: one compiled program; after every few EM steps it drops the finished data sets
        |  fit_many puts the results into the order of the data sets
    Fit with a leading axis (B,)

JAX arrays stay on their device. NumPy arrays are sent to the device batch by batch, each array once. The module `restarts` uses
the same functions to fit one data set from several starts, and ranks the fits.
"""
