"""What the third, fourth and fifth post did, behind switches, kept to be measured.

In the order of reading:

    third   two losses that compare a softmax of rates with 0 and 1
    fourth  the Forward-Forward network, each of its faults behind a switch
    fifth   a sigmoid in place of a spike, a gradient from the last step, a loss
"""
