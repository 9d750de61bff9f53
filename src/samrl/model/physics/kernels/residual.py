"""Inverse dynamics (Recursive Newton-Euler, Featherstone 2008, Table 5.1) minus the joint forces: zero at the solution.

It is evaluated only on the way back, at the q̈ that the solver found and with that q̈ as a constant, so that Warp
differentiates it by everything else.
"""

import warp as wp

from .types import FREE, Model, Scratch


@wp.func
def accelerate_link(m: Model, s: Scratch, e: int, i: int):
    """Acceleration of link i without its own joint's q̈."""
    a = m.parent[i]
    s.aw[e, i] = s.aw[e, a] + s.cw[e, i]
    if m.joint_type[i] == FREE:
        s.av[e, i] = s.av[e, a] + s.cv[e, i]
    else:
        s.av[e, i] = s.av[e, a] + wp.cross(s.aw[e, a], s.p[e, i] - s.p[e, a]) + s.cv[e, i]


@wp.func_replay(accelerate_link)
def replay_accelerate_link(m: Model, s: Scratch, e: int, i: int):
    pass


@wp.func
def link_wrench(m: Model, s: Scratch, e: int, i: int):
    """Wrench that moves link i as it moves: Newton-Euler less contact and compensated gravity."""
    R = s.R[e, i]
    w = s.w[e, i]
    aw = s.aw[e, i]
    av = s.av[e, i]
    c = R * m.com[e, i]
    f = (av + wp.cross(aw, c) + wp.cross(w, wp.cross(w, c)) + m.gravity[e] * m.gravcomp[i]) * m.mass[e, i]
    J = m.inertia[e, i]
    Rt = wp.transpose(R)
    n = R * (J * (Rt * aw)) + wp.cross(w, R * (J * (Rt * w)))
    B = s.Gwv[e, i]
    s.bv[e, i] = f - s.force[e, i] + wp.transpose(B) * aw + s.Gvv[e, i] * av
    s.bw[e, i] = n + wp.cross(c, f) - s.torque[e, i] + s.Gww[e, i] * aw + B * av


@wp.func_replay(link_wrench)
def replay_link_wrench(m: Model, s: Scratch, e: int, i: int):
    pass


@wp.func
def react_on_leader(m: Model, s: Scratch, e: int, c: int):
    """The c-th contact's reaction on its leader, if it has one: see contact.py."""
    b = s.contact_probe[e, c]
    i = m.probe_follower[b]
    if i >= 0:
        f = s.cF[e, c] - s.cK[e, c] * (s.av[e, i] + wp.cross(s.aw[e, i], s.cf[e, c]))
        wp.atomic_add(s.bv, e, m.probe_leader[b], f)
        wp.atomic_add(s.bw, e, m.probe_leader[b], wp.cross(s.cl[e, c], f))


@wp.func_replay(react_on_leader)
def replay_react_on_leader(m: Model, s: Scratch, e: int, c: int):
    pass


@wp.func
def inverse_dynamics(m: Model, s: Scratch, e: int):
    """Fill s.residual (zeros, but for rounding)."""
    nl = m.nl
    s.av[e, 0] = -m.gravity[e]
    for i in range(1, nl):
        accelerate_link(m, s, e, i)
        for k in range(m.v_adr[i], m.v_adr[i] + m.nd[i]):
            wp.atomic_add(s.aw, e, i, s.Sw[e, k] * s.qdd_value[e, k])
            wp.atomic_add(s.av, e, i, s.Sv[e, k] * s.qdd_value[e, k])
    for i in range(1, nl):
        link_wrench(m, s, e, i)
    if m.passes > 0:
        for c in range(s.n_contacts[e]):
            react_on_leader(m, s, e, c)
    for n in range(1, nl):
        j = nl - n
        a = m.parent[j]
        if a > 0:
            f = s.bv[e, j]
            wp.atomic_add(s.bv, e, a, f)
            wp.atomic_add(s.bw, e, a, s.bw[e, j] + wp.cross(s.p[e, j] - s.p[e, a], f))
    for i in range(1, nl):
        for k in range(m.v_adr[i], m.v_adr[i] + m.nd[i]):
            passed = wp.dot(s.Sw[e, k], s.bw[e, i]) + wp.dot(s.Sv[e, k], s.bv[e, i])
            s.residual[e, k] = passed + s.extra[e, k] * s.qdd_value[e, k] - s.drive[e, k]
