"""EM on many data sets in one call.

How data flow through `fit_many`:

    list of arrays | stack (B, N, D) | rows with group labels | one data set with many starts or weights
        |  data_sets.as_data_sets: validation
    DataSets
        |  DataSets.batches: data sets are put into buckets by their length, each bucket is cut into batches
    Batch, Batch, ...: each of one padded length and one size, so that few programs are compiled
        |  threads.map_threads: several batches at the same time on a CPU
    batched_loop.fit_batch: one compiled program; rounds of a few EM steps, finished data sets are sorted out in between
        |  fit_many: results are put into the order of the data sets
    Fit with a leading (B,)

JAX arrays stay on their device; NumPy arrays are sent to the device once, batch by batch. `restarts` fits one data set from
several starts by the same route, and ranks the fits.
"""
