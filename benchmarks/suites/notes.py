"""How rows differ on purpose from the code behind published numbers, for the tables of all suites.

Each figure is of the paper's size and holds for every data set; docs/deviations.md has the rest.
"""

from __future__ import annotations

PORT = "OpenSTL's port (v0.3.0 and v1.0.0)"
ZOO = "OpenSTL_model_zoo"  # the source's name in published.csv
NOTES = {
    "Last frame": "repeats the last observed frame: the persistence baseline",
    "ConvLSTM": "the paper's cell, h' = o tanh(c'); OpenSTL's port has o tanh(g) up to v0.3.0, "
    "with which its numbers were published, and the paper's cell in v1.0.0; either has 3.41 M "
    "parameters more, unused; same multiply-adds",
    "PredRNN++": "the weights of c act on c, as in the paper; OpenSTL's port applies them to m up "
    "to v0.3.0, with which its numbers were published, and to c in v1.0.0; either has 3.28 M "
    "parameters more, unused; same multiply-adds",
    "MIM": f"states start afresh with each sequence and gradients flow through them; {PORT} "
    "carries a detached state from batch to batch and has 98,304 parameters more, unused; same "
    "multiply-adds",
    "E3D-LSTM": f"m lives, depth is padded and attention is per pixel, as in the paper; {PORT} has "
    "none of these and about half the multiply-adds",
    "PhyDNet": f"minimises the paper's loss; {PORT} minimises the mean squared difference between "
    "that scalar and the future's pixels; same cost",
    "CrevNet": "reads the whole past before it forecasts, where OpenSTL's port (v0.3.0, the last "
    "to have it) reads three frames, and takes batch statistics over all steps at once; same cost "
    "(the 270.7 G published for Moving MNIST count 16 samples)",
    "Swin": f"shifted windows are masked, as in the paper; {PORT} leaves the mask out, so that "
    "opposite borders mix; same cost",
    "ConvMixer": "the published 5.5 G leave out its 11x11 convolutions, which were not seen by the "
    "counter, fvcore, as their padding is a word and not a number",
    "PredNet": "after the past, a prediction is compared with the one before it, as in the "
    "authors' code and OpenSTL's port (v0.3.0, the last to have it), and not with itself, as the "
    "author describes it; same cost",
}
