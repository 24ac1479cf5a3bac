"""What a run can be told: tables of settings, presets and claims. Needs no torch.

In the order of reading:

    setting        one setting: default, what it may be, its flag; which go together
    experiment     the settings of a run by backpropagation through time
    ff_experiment  those of Forward-Forward, and of the fourth post's rows
    presets        every experiment of the book by name
    ff_presets     every Forward-Forward experiment by name
    claims         what the posts claim, and which presets repeat it
"""
