"""Learning without a backward pass: every layer tells positive from negative images by itself.

In the order of reading:

    labels      labels as pixels: true ones, wrong ones (drawn here), and none
    goodness    what a layer strives for, the loss on it, and inputs without it
    network     layers that learn alone, and the loop over batches
    judging     ten labels are tried, and goodness judges them
    layers      the layers that settings ask for
    pairs       the rule for one batch of positive and negative images
    heads       layers with a taught head on top
    class_wise  every class owns channels, or neurons
    backprop    the same layers taught from the output: a yardstick
    rules       every rule by name: add yours here
    training    epochs, scores and going on, the same for all rules
    sharing     a batch shared by processes
"""
