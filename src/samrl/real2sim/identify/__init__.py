"""Motion in, a physical model with error bars out (Heiden et al., "Real2Sim Transfer using Differentiable Physics").

`columns.py` and `recording.py` read motion, `channels.py` says what of it the model predicts, `free.py` which parameters are
looked for, `problem.py` compares, `fit.py` finds one estimate, `evidence.py` its error bars and what the motion cannot tell
apart, `mixture.py` a distribution."""
