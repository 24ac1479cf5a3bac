"""The command line: flags become settings; the work is done elsewhere.

In the order of reading:

    main       every command
    flags      what can be said to them
    predict    what a stored network says about your own pictures
    files      where checkpoints, weights, ledger and images are
    processes  how a run is stopped, and runs side by side
    doctor     what is installed, and what is wrong with it
"""
