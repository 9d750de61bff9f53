"""The Warp side of the physics. This package is loaded twice, for float32 and for float64 (see precision.py).

How reverse mode stays right inside loops whose length is not known to the compiler:

* A value that one iteration hands to the next lives in an array, never in a local: Warp does not keep the history of
  locals, and the adjoint would be wrong without a word.
* Each array slot is stored once a step. The adjoint of a store takes the slot's gradient and sets it to zero, so the
  scratch arrays are clean again after every step and one set of them serves all steps.
* Going back, Warp replays a step's forward code first. A function that is called once an iteration would then run again
  for each iteration: it gets an empty replay where the caller's replay has filled the arrays already.
* The solution of the equations of motion is not differentiated; see solve.py.
"""
