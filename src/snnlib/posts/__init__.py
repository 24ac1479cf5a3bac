"""What the third, fourth and fifth post did, behind switches, kept to be measured."""
