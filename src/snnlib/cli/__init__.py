"""The command line: flags become settings; the work is done elsewhere.

In the order of reading:

    main       every command
    flags      what can be said to them
    predict    what a stored network says about your own pictures
    files      where checkpoints, weights, ledger and images are
    processes  runs side by side
    stopping   Ctrl-C and SIGTERM
"""
