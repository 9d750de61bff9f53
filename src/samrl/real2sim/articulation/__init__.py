"""Looks at a drawer or a door in, its joint out: how far it is open in each look, and about or along which line it moves.

`joint.py` says how a joint moves a body, and which joints a body may have; `looks.py` cuts images to the body; `problem.py`
compares images of the twin with them; `search.py` finds the joint, `fit.py` says how sure it is, `scene_file.py` writes it."""
