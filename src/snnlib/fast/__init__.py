"""The same answers, sooner: engines that compute on spikes, and scans over time.

In the order of reading:

    scan          a whole run of neurons as one step of autograd
    constant      the same for an input that never changes: a rate and its slope
    events        Poisson images, a dense layer, LIF: on the spikes alone (what makes fc fast)
    sparse        convolutions and dense layers on spikes
    fused         the convolutional networks: norm, neurons and max pool in one pass
    known_layers  which layers an engine may replace; all others are refused by name
    walks         a sequence through the layers of a network, neurons by one of three ways
    optimizers    Adam and SGD as in torch, from a shorter start
    kernels/      the loops under them: read them last
"""
