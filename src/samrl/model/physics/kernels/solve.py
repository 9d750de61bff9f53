"""The equations of motion, solved for q̈ by the Articulated-Body Algorithm (Featherstone 2008, Table 7.1).

A joint with several degrees of freedom is taken as one-degree updates in turn. The matrix that is inverted is
M̂ = M + extra + the contact terms: symmetric, so its factors serve the reverse pass too. Reactions of followers on
leaders (contact.py) come on top, as a right-hand side that is known once the followers' accelerations are.

`solve` is not differentiated. With r(q̈, x) = inverse dynamics - drive (residual.py) and r = 0 at the solution, a loss L
has dL/dx = -μ·∂r/∂x with M̂ μ = ∂L/∂q̈ (implicit function theorem). `hand_back` does nothing going forward; going back
it finds μ with the factors that `solve` left and makes -μ the gradient of r, which Warp differentiates.
"""

import warp as wp

from .rotations import cross_columns, rows_cross
from .types import FREE, Model, Scratch, real, vec3


@wp.func
def body_inertia(m: Model, s: Scratch, e: int, i: int):
    """Spatial inertia and bias wrench of link i about its origin, contact terms included."""
    mass = m.mass[e, i]
    R = s.R[e, i]
    w = s.w[e, i]
    c = R * m.com[e, i]
    I = R * m.inertia[e, i] * wp.transpose(R)
    mc = c * mass
    f = (wp.cross(w, wp.cross(w, c)) + m.gravity[e] * m.gravcomp[i]) * mass
    s.Iww[e, i] = I - wp.outer(mc, c) + wp.identity(n=3, dtype=real) * wp.dot(mc, c) + s.Gww[e, i]  # I - m [c]x²
    s.Iwv[e, i] = wp.skew(mc) + s.Gwv[e, i]
    s.Ivv[e, i] = wp.identity(n=3, dtype=real) * mass + s.Gvv[e, i]
    s.pw[e, i] = wp.cross(w, I * w) + wp.cross(c, f) - s.torque[e, i] - s.rw[e, i]
    s.pv[e, i] = f - s.force[e, i] - s.rv[e, i]


@wp.func
def fold_link(m: Model, s: Scratch, e: int, i: int):
    """Take link i's joint out of its articulated inertia and add the rest to its parent's."""
    A = s.Iww[e, i]
    B = s.Iwv[e, i]
    C = s.Ivv[e, i]
    pw = s.pw[e, i]
    pv = s.pv[e, i]
    last = m.v_adr[i] + m.nd[i] - 1
    for n in range(m.nd[i]):
        k = last - n
        Sw = s.Sw[e, k]
        Sv = s.Sv[e, k]
        Uw = A * Sw + B * Sv
        Uv = wp.transpose(B) * Sw + C * Sv
        inv_D = real(1.0) / (wp.dot(Sw, Uw) + wp.dot(Sv, Uv) + s.extra[e, k])
        u = s.drive[e, k] - wp.dot(Sw, pw) - wp.dot(Sv, pv)
        Ww = Uw * inv_D
        Wv = Uv * inv_D
        A = A - wp.outer(Ww, Uw)
        B = B - wp.outer(Ww, Uv)
        C = C - wp.outer(Wv, Uv)
        pw = pw + Ww * u
        pv = pv + Wv * u
        s.Uw[e, k] = Uw
        s.Uv[e, k] = Uv
        s.inv_D[e, k] = inv_D
        s.u[e, k] = u
    a = m.parent[i]
    if a > 0:
        pw = pw + A * s.cw[e, i] + B * s.cv[e, i]
        pv = pv + wp.transpose(B) * s.cw[e, i] + C * s.cv[e, i]
        r = s.p[e, i] - s.p[e, a]
        X = cross_columns(r, wp.transpose(B))  # [r]x B^T, and with its transpose -B [r]x
        Y = cross_columns(r, C)
        s.Iww[e, a] = s.Iww[e, a] + A + X + wp.transpose(X) - rows_cross(Y, r)
        s.Iwv[e, a] = s.Iwv[e, a] + B + Y
        s.Ivv[e, a] = s.Ivv[e, a] + C
        s.pw[e, a] = s.pw[e, a] + pw + wp.cross(r, pv)
        s.pv[e, a] = s.pv[e, a] + pv


@wp.func
def carry_over(m: Model, s: Scratch, e: int, i: int):
    """Acceleration that link i has from its parent's, in the solver's arrays."""
    a = m.parent[i]
    s.xw[e, i] = s.xw[e, a]
    if m.joint_type[i] == FREE:
        s.xv[e, i] = s.xv[e, a]
    else:
        s.xv[e, i] = s.xv[e, a] + wp.cross(s.xw[e, a], s.p[e, i] - s.p[e, a])


@wp.func
def unfold_dof(s: Scratch, e: int, i: int, k: int):
    """Acceleration of degree of freedom k, added to its link's."""
    x = (s.u[e, k] - wp.dot(s.Uw[e, k], s.xw[e, i]) - wp.dot(s.Uv[e, k], s.xv[e, i])) * s.inv_D[e, k]
    s.xw[e, i] = s.xw[e, i] + s.Sw[e, k] * x
    s.xv[e, i] = s.xv[e, i] + s.Sv[e, k] * x
    return x


@wp.func
def solve_once(m: Model, s: Scratch, e: int):
    """Fill s.qdd, and the factors of M̂, with the reactions as they are."""
    nl = m.nl
    for i in range(1, nl):
        body_inertia(m, s, e, i)
    for n in range(1, nl):
        fold_link(m, s, e, nl - n)
    s.xw[e, 0] = vec3()
    s.xv[e, 0] = -m.gravity[e]
    for i in range(1, nl):
        carry_over(m, s, e, i)
        s.xw[e, i] = s.xw[e, i] + s.cw[e, i]
        s.xv[e, i] = s.xv[e, i] + s.cv[e, i]
        for k in range(m.v_adr[i], m.v_adr[i] + m.nd[i]):
            s.qdd[e, k] = unfold_dof(s, e, i, k)


@wp.func
def clear_reactions(m: Model, s: Scratch, e: int):
    """No reaction on any link."""
    for i in range(1, m.nl):
        s.rw[e, i] = vec3()
        s.rv[e, i] = vec3()


@wp.func
def react(m: Model, s: Scratch, e: int):
    """Reactions on the leaders, from the accelerations of the followers."""
    clear_reactions(m, s, e)
    for c in range(s.n_contacts[e]):
        i = m.probe_follower[s.contact_probe[e, c]]
        if i >= 0:
            j = m.probe_leader[s.contact_probe[e, c]]
            f = s.cF[e, c] - s.cK[e, c] * (s.xv[e, i] + wp.cross(s.xw[e, i], s.cf[e, c]))
            s.rv[e, j] = s.rv[e, j] - f
            s.rw[e, j] = s.rw[e, j] - wp.cross(s.cl[e, c], f)


@wp.func
def solve(m: Model, s: Scratch, e: int):
    """Fill s.qdd, and the factors of M̂. Followers do not feel their leaders' accelerations: a round for each storey."""
    if m.passes > 0:
        clear_reactions(m, s, e)
    solve_once(m, s, e)
    for _n in range(m.passes):
        react(m, s, e)
        solve_once(m, s, e)


@wp.func_grad(solve)
def adj_solve(m: Model, s: Scratch, e: int):
    pass


@wp.func
def fold_gradient(m: Model, s: Scratch, e: int, i: int):
    """`fold_link` for the right-hand side alone, which is the gradient of q̈."""
    pw = s.pw[e, i]
    pv = s.pv[e, i]
    last = m.v_adr[i] + m.nd[i] - 1
    for n in range(m.nd[i]):
        k = last - n
        u = s.qdd_grad[e, k] - wp.dot(s.Sw[e, k], pw) - wp.dot(s.Sv[e, k], pv)
        s.u[e, k] = u
        pw = pw + s.Uw[e, k] * (u * s.inv_D[e, k])
        pv = pv + s.Uv[e, k] * (u * s.inv_D[e, k])
    a = m.parent[i]
    if a > 0:
        s.pw[e, a] = s.pw[e, a] + pw + wp.cross(s.p[e, i] - s.p[e, a], pv)
        s.pv[e, a] = s.pv[e, a] + pv


@wp.func
def hand_back(m: Model, s: Scratch, e: int):
    """Nothing going forward."""
    pass


@wp.func_replay(hand_back)
def replay_hand_back(m: Model, s: Scratch, e: int):
    pass


@wp.func
def react_back(m: Model, s: Scratch, e: int):
    """Transpose of `react`: what the leaders' μ asks of the followers."""
    for c in range(s.n_contacts[e]):
        i = m.probe_follower[s.contact_probe[e, c]]
        if i >= 0:
            j = m.probe_leader[s.contact_probe[e, c]]
            f = s.cK[e, c] * (s.xv[e, j] + wp.cross(s.xw[e, j], s.cl[e, c]))
            s.pv[e, i] = s.pv[e, i] - f
            s.pw[e, i] = s.pw[e, i] - wp.cross(s.cf[e, c], f)


@wp.func_grad(hand_back)
def adj_hand_back(m: Model, s: Scratch, e: int):
    nl = m.nl
    for n in range(m.passes + 1):
        for i in range(nl):
            s.pw[e, i] = vec3()
            s.pv[e, i] = vec3()
        if n > 0:
            react_back(m, s, e)
        for j in range(1, nl):
            fold_gradient(m, s, e, nl - j)
        s.xw[e, 0] = vec3()
        s.xv[e, 0] = vec3()
        for i in range(1, nl):
            carry_over(m, s, e, i)
            for k in range(m.v_adr[i], m.v_adr[i] + m.nd[i]):
                s.residual_grad[e, k] = -unfold_dof(s, e, i, k)
    for k in range(m.nv):
        s.qdd_grad[e, k] = real(0.0)  # used up
