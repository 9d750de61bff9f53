"""Joint forces, implicit in the step, and the integration of the coordinates.

The force of a spring-damper at the end of the step, tau - d·q̇' - k·(q' - q_ref) with q̇' = q̇ + h·q̈ and q' = q + h·q̇', is
split into what is known at the start (`drive`) and what goes with q̈ (`extra`, added to the joint's inertia).
"""

import warp as wp

from .contact import ramp, ramp_slope
from .rotations import read_quat, rotation_vector, turn_quat
from .types import BALL, FREE, Model, Reals3, Scratch, real, vec3


@wp.func
def stop_of(m: Model, ahead: real, k: int):
    """Force of degree of freedom k's limits at coordinate `ahead`, and how far they have set in, 0 to 1."""
    over = ahead - m.limit_high[k]
    under = m.limit_low[k] - ahead
    if wp.max(over, under) <= -m.limit_width:
        return vec3()
    force = m.limit_stiffness * (ramp(-under, m.limit_width) - ramp(-over, m.limit_width))
    return vec3(force, ramp_slope(-over, m.limit_width) + ramp_slope(-under, m.limit_width), real(0.0))


@wp.func
def drive_coordinate(m: Model, s: Scratch, x: real, qd: Reals3, ref: Reals3, tau: Reals3, t: int, c: int, e: int, k: int):
    """Spring, damper, torque and limits of degree of freedom k at coordinate x."""
    speed = qd[t, e, k]
    ahead = x + m.h * speed
    stop = stop_of(m, ahead, k)
    slope = stop[1]
    damping = m.damping[e, k] + m.limit_damping * slope
    stiffness = m.stiffness[e, k]
    s.drive[e, k] = tau[c, e, k] - damping * speed - stiffness * (ahead - ref[c, e, k]) + stop[0]
    s.extra[e, k] = m.armature[e, k] + m.h * (damping + m.h * (stiffness + m.limit_stiffness * slope))


@wp.func
def drive_axis(m: Model, s: Scratch, x: real, qd: Reals3, ref: Reals3, tau: Reals3, t: int, c: int, e: int, k: int):
    """Spring, damper and torque of one axis of a ball joint, x being a component of its rotation vector."""
    d = m.damping[e, k]
    ahead = x + m.h * qd[t, e, k]
    s.drive[e, k] = tau[c, e, k] - d * qd[t, e, k] - m.stiffness[e, k] * (ahead - ref[c, e, k])
    s.extra[e, k] = m.armature[e, k] + m.h * (d + m.h * m.stiffness[e, k])


@wp.func
def drive_free(m: Model, s: Scratch, qd: Reals3, tau: Reals3, t: int, c: int, e: int, k: int):
    """Damper and torque of one degree of freedom of a floating body, which has no spring."""
    d = m.damping[e, k]
    s.drive[e, k] = tau[c, e, k] - d * qd[t, e, k]
    s.extra[e, k] = m.armature[e, k] + m.h * d


@wp.func
def drive_joint(m: Model, s: Scratch, q: Reals3, qd: Reals3, ref: Reals3, tau: Reals3, t: int, c: int, e: int, i: int):
    """Joint forces of link i at step t, in control period c."""
    k = m.v_adr[i]
    kind = m.joint_type[i]
    if kind == FREE:
        drive_free(m, s, qd, tau, t, c, e, k)
        drive_free(m, s, qd, tau, t, c, e, k + 1)
        drive_free(m, s, qd, tau, t, c, e, k + 2)
        drive_free(m, s, qd, tau, t, c, e, k + 3)
        drive_free(m, s, qd, tau, t, c, e, k + 4)
        drive_free(m, s, qd, tau, t, c, e, k + 5)
    elif kind == BALL:
        x = rotation_vector(read_quat(q, t, e, m.q_adr[i]))
        drive_axis(m, s, x[0], qd, ref, tau, t, c, e, k)
        drive_axis(m, s, x[1], qd, ref, tau, t, c, e, k + 1)
        drive_axis(m, s, x[2], qd, ref, tau, t, c, e, k + 2)
    elif kind > BALL:
        drive_coordinate(m, s, q[t, e, m.q_adr[i]], qd, ref, tau, t, c, e, k)


@wp.func_replay(drive_joint)
def replay_drive_joint(m: Model, s: Scratch, q: Reals3, qd: Reals3, ref: Reals3, tau: Reals3, t: int, c: int, e: int, i: int):
    pass


@wp.func
def drive_joints(m: Model, s: Scratch, q: Reals3, qd: Reals3, ref: Reals3, tau: Reals3, t: int, c: int, e: int):
    """Joint forces of all links."""
    for i in range(1, m.nl):
        drive_joint(m, s, q, qd, ref, tau, t, c, e, i)


@wp.func
def write_turned(q: Reals3, qd: Reals3, h: real, t: int, e: int, j: int, k: int):
    """Turn the quaternion at coordinate j by the new angular velocity at degree of freedom k."""
    b = turn_quat(read_quat(q, t, e, j), vec3(qd[t + 1, e, k], qd[t + 1, e, k + 1], qd[t + 1, e, k + 2]), h)
    q[t + 1, e, j] = b[3]
    q[t + 1, e, j + 1] = b[0]
    q[t + 1, e, j + 2] = b[1]
    q[t + 1, e, j + 3] = b[2]


@wp.func
def integrate(m: Model, s: Scratch, q: Reals3, qd: Reals3, t: int, e: int):
    """Semi-implicit Euler: the new velocity moves the coordinates."""
    for k in range(m.nv):
        qd[t + 1, e, k] = qd[t, e, k] + m.h * s.qdd[e, k]
    for i in range(1, m.nl):
        j = m.q_adr[i]
        k = m.v_adr[i]
        kind = m.joint_type[i]
        if kind > BALL:
            q[t + 1, e, j] = q[t, e, j] + m.h * qd[t + 1, e, k]
        elif kind == BALL:
            write_turned(q, qd, m.h, t, e, j, k)
        elif kind == FREE:
            q[t + 1, e, j] = q[t, e, j] + m.h * qd[t + 1, e, k]
            q[t + 1, e, j + 1] = q[t, e, j + 1] + m.h * qd[t + 1, e, k + 1]
            q[t + 1, e, j + 2] = q[t, e, j + 2] + m.h * qd[t + 1, e, k + 2]
            write_turned(q, qd, m.h, t, e, j + 3, k + 3)


@wp.func_replay(integrate)
def replay_integrate(m: Model, s: Scratch, q: Reals3, qd: Reals3, t: int, e: int):
    pass
