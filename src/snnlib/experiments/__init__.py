"""One run, from its settings to its record.

In the order of reading:

    run             the runner: history, choice of the epoch, checkpoints, going on, record
    learner         what it asks of everything that learns
    bptt_run        backpropagation through time as a learner; losses by name: add yours here
    ff_run          every Forward-Forward rule, and the fourth post's rows, as learners
    ff_factory      their networks, rules and trainings from settings: name your rule here
    engines         how a network answers, by one of several engines
    images          those that a caller brings to a run, and how training images move
    distributed     one run shared by several processes
    stored_weights  weights that travel inside the package
    ff_stored       Forward-Forward weights, read back
"""
