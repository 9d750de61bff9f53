"""`rollout` for scenes with bodies that float alone, whose friction waits for what grip.py finds. A kernel of its own: scenes
without them would be slower by the call alone."""

import warp as wp

from .contact import find_contacts, pose_geoms, touch_all, touch_rest
from .joints import drive_joints, integrate
from .kinematics import move_links, pose_links
from .residual import inverse_dynamics
from .solve import hand_back, solve
from .types import Model, Reals3, Scratch

wp.set_module_options({"enable_backward": True, "max_unroll": 4})


@wp.kernel
def rollout(
    m: Model, s: Scratch, q: Reals3, qd: Reals3, ref: Reals3, tau: Reals3, steps: int, substeps: int, reverse: int
):  # fmt: skip
    """As in rollout.py."""
    e = wp.tid()
    for t in range(steps):
        c = t / substeps
        pose_links(m, s, q, t, e)
        move_links(m, s, qd, t, e)
        pose_geoms(m, s, e)
        find_contacts(m, s, e)
        touch_all(m, s, e)
        drive_joints(m, s, q, qd, ref, tau, t, c, e)
        touch_rest(m, s, e)
        solve(m, s, e)
        if reverse == 1:
            inverse_dynamics(m, s, e)
        hand_back(m, s, e)
        integrate(m, s, q, qd, t, e)
