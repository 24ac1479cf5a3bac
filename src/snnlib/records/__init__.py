"""What is kept of a run: its record, the ledger, checkpoints, and the machine it ran on.

In the order of reading:

    record         what is written down about a run, typed and checked
    correct        which test images were predicted correctly, as a short text
    ledger         one line of JSON per run: where records are written and read
    reproduction   from claims to runs and back: what is missing, how numbers compare
    results        what the ledger says about a preset, and how two of them differ
    student        how far the mean of a few seeds can be trusted
    checkpoints    states to go on from, and weights to keep
    tensorboard    curves of a run for TensorBoard
    environment    versions, commit, device
    bench_results  speed beside other libraries, as it was measured
"""
