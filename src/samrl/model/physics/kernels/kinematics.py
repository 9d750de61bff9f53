"""Poses and velocities of the links, from the world outwards (Featherstone 2008, sections 4.4 and 5.3)."""

import warp as wp

from .rotations import matrix_from_unit_quat, read_quat, turned
from .types import BALL, FREE, HINGE, SLIDE, Model, Reals3, Scratch, mat33, real, vec3

wp.set_module_options({"enable_backward": True, "max_unroll": 4})


@wp.func
def column(R: mat33, j: int):
    """Column j of a matrix."""
    return vec3(R[0, j], R[1, j], R[2, j])


@wp.func
def pose_fixed(m: Model, s: Scratch, e: int, i: int):
    """A link that is welded to its parent."""
    a = m.parent[i]
    s.R[e, i] = s.R[e, a] * m.link_R[e, i]
    s.p[e, i] = s.p[e, a] + s.R[e, a] * m.link_p[e, i]


@wp.func
def pose_hinge(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    """A link that turns about an axis through the joint's anchor."""
    a = m.parent[i]
    k = m.v_adr[i]
    rest = s.R[e, a] * m.link_R[e, i]
    R = turned(rest, m.axis[i], q[t, e, m.q_adr[i]] - m.q0[i])
    arm = R * (-m.joint_p[e, i])
    z = rest * m.axis[i]
    s.R[e, i] = R
    s.p[e, i] = s.p[e, a] + s.R[e, a] * m.link_p[e, i] + rest * m.joint_p[e, i] + arm
    s.arm[e, i] = arm
    s.Sw[e, k] = z
    s.Sv[e, k] = wp.cross(z, arm)


@wp.func
def pose_slide(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    """A link that slides along an axis."""
    a = m.parent[i]
    k = m.v_adr[i]
    R = s.R[e, a] * m.link_R[e, i]
    z = R * m.axis[i]
    s.R[e, i] = R
    s.p[e, i] = s.p[e, a] + s.R[e, a] * m.link_p[e, i] + z * (q[t, e, m.q_adr[i]] - m.q0[i])
    s.Sw[e, k] = vec3()
    s.Sv[e, k] = z


@wp.func
def pose_ball(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    """A link that turns freely about the joint's anchor; its three axes are its own."""
    a = m.parent[i]
    k = m.v_adr[i]
    rest = s.R[e, a] * m.link_R[e, i]
    R = rest * matrix_from_unit_quat(read_quat(q, t, e, m.q_adr[i]))
    arm = R * (-m.joint_p[e, i])
    s.R[e, i] = R
    s.p[e, i] = s.p[e, a] + s.R[e, a] * m.link_p[e, i] + rest * m.joint_p[e, i] + arm
    s.arm[e, i] = arm
    s.Sw[e, k] = column(R, 0)
    s.Sw[e, k + 1] = column(R, 1)
    s.Sw[e, k + 2] = column(R, 2)
    s.Sv[e, k] = wp.cross(column(R, 0), arm)
    s.Sv[e, k + 1] = wp.cross(column(R, 1), arm)
    s.Sv[e, k + 2] = wp.cross(column(R, 2), arm)


@wp.func
def pose_free(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    """A body that floats in the world: position and quaternion are the coordinates."""
    k = m.v_adr[i]
    j = m.q_adr[i]
    R = matrix_from_unit_quat(read_quat(q, t, e, j + 3))
    o = real(1.0)
    z = real(0.0)
    s.R[e, i] = R
    s.p[e, i] = vec3(q[t, e, j], q[t, e, j + 1], q[t, e, j + 2])
    s.Sw[e, k] = vec3()
    s.Sw[e, k + 1] = vec3()
    s.Sw[e, k + 2] = vec3()
    s.Sv[e, k] = vec3(o, z, z)
    s.Sv[e, k + 1] = vec3(z, o, z)
    s.Sv[e, k + 2] = vec3(z, z, o)
    s.Sw[e, k + 3] = column(R, 0)
    s.Sw[e, k + 4] = column(R, 1)
    s.Sw[e, k + 5] = column(R, 2)
    s.Sv[e, k + 3] = vec3()
    s.Sv[e, k + 4] = vec3()
    s.Sv[e, k + 5] = vec3()


@wp.func
def pose_link(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    """Pose and joint axes of link i, its parent's being known."""
    if m.joint_type[i] == HINGE:
        pose_hinge(m, s, q, t, e, i)
    elif m.joint_type[i] == SLIDE:
        pose_slide(m, s, q, t, e, i)
    elif m.joint_type[i] == BALL:
        pose_ball(m, s, q, t, e, i)
    elif m.joint_type[i] == FREE:
        pose_free(m, s, q, t, e, i)
    else:
        pose_fixed(m, s, e, i)


@wp.func_replay(pose_link)
def replay_pose_link(m: Model, s: Scratch, q: Reals3, t: int, e: int, i: int):
    pass


@wp.func
def pose_links(m: Model, s: Scratch, q: Reals3, t: int, e: int):
    """Poses and joint axes of all links at step t of environment e."""
    for i in range(1, m.nl):
        pose_link(m, s, q, t, e, i)


@wp.func
def move_turning(s: Scratch, e: int, i: int, a: int, wj: vec3):
    """Velocities behind a joint that turns at wj; wj is zero for a weld."""
    r = s.p[e, i] - s.p[e, a]
    w = s.w[e, a]
    arm = s.arm[e, i]
    vj = wp.cross(wj, arm)
    cw = wp.cross(w, wj)
    s.w[e, i] = w + wj
    s.v[e, i] = s.v[e, a] + wp.cross(w, r) + vj
    s.cw[e, i] = cw
    s.cv[e, i] = wp.cross(w, wp.cross(w, r) + vj) + wp.cross(cw, arm) + wp.cross(wj, wp.cross(w + wj, arm))


@wp.func
def move_fixed(s: Scratch, e: int, i: int, a: int):
    """Velocities of a welded link."""
    r = s.p[e, i] - s.p[e, a]
    w = s.w[e, a]
    s.w[e, i] = w
    s.v[e, i] = s.v[e, a] + wp.cross(w, r)
    s.cw[e, i] = vec3()
    s.cv[e, i] = wp.cross(w, wp.cross(w, r))


@wp.func
def move_slide(s: Scratch, e: int, i: int, a: int, vj: vec3):
    """Velocities behind a joint that slides at vj; the Coriolis term comes twice."""
    r = s.p[e, i] - s.p[e, a]
    w = s.w[e, a]
    s.w[e, i] = w
    s.v[e, i] = s.v[e, a] + wp.cross(w, r) + vj
    s.cw[e, i] = vec3()
    s.cv[e, i] = wp.cross(w, wp.cross(w, r)) + wp.cross(w, vj) * real(2.0)


@wp.func
def move_free(m: Model, s: Scratch, qd: Reals3, t: int, e: int, i: int):
    """Velocities of a floating body: linear in the world's axes, angular in its own, as MuJoCo has them."""
    k = m.v_adr[i]
    s.w[e, i] = s.R[e, i] * vec3(qd[t, e, k + 3], qd[t, e, k + 4], qd[t, e, k + 5])
    s.v[e, i] = vec3(qd[t, e, k], qd[t, e, k + 1], qd[t, e, k + 2])
    s.cw[e, i] = vec3()
    s.cv[e, i] = vec3()


@wp.func
def move_link(m: Model, s: Scratch, qd: Reals3, t: int, e: int, i: int):
    """Velocities and velocity-product accelerations of link i, its parent's being known."""
    a = m.parent[i]
    k = m.v_adr[i]
    if m.joint_type[i] == HINGE:
        move_turning(s, e, i, a, s.Sw[e, k] * qd[t, e, k])
    elif m.joint_type[i] == SLIDE:
        move_slide(s, e, i, a, s.Sv[e, k] * qd[t, e, k])
    elif m.joint_type[i] == BALL:
        move_turning(s, e, i, a, s.R[e, i] * vec3(qd[t, e, k], qd[t, e, k + 1], qd[t, e, k + 2]))
    elif m.joint_type[i] == FREE:
        move_free(m, s, qd, t, e, i)
    else:
        move_fixed(s, e, i, a)


@wp.func_replay(move_link)
def replay_move_link(m: Model, s: Scratch, qd: Reals3, t: int, e: int, i: int):
    pass


@wp.func
def move_links(m: Model, s: Scratch, qd: Reals3, t: int, e: int):
    """Velocities of all links, whose poses are known."""
    for i in range(1, m.nl):
        move_link(m, s, qd, t, e, i)


@wp.kernel
def forward_kinematics(m: Model, s: Scratch, q: Reals3):
    """Poses of all links for q (1, E, nq): fills s.R and s.p."""
    e = wp.tid()
    pose_links(m, s, q, 0, e)
