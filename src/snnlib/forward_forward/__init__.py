"""Learning without a backward pass: every layer tells positive from negative images by itself.

In the order of reading:

    labels      labels as pixels: true ones, wrong ones (drawn here), and none
    goodness    what a layer strives for, the loss on it, and inputs without it
    network     layers that learn alone, and the loop over batches
    judging     ten labels are tried, and goodness judges them
    layers      kinds of layers: LIF or ReLU, on grey values or spikes
    rules       what every rule offers: a step on one batch, and predictions
    pairs       the rule of positive and negative images
    heads       layers with a head on top that learns digits
    class_wise  every class owns channels, or neurons
    backprop    the same layers trained from the output: a yardstick
    training    epochs, scores and going on, the same for all rules
    sharing     a batch shared by processes
"""
