"""What bounds friction: the normal force, and the speed by which it is judged.

Of a body that is held by joints the normal force is that before the step's acceleration is known, which is exact at rest. In an
impact the step ends with less, N = F·n - K a·n, and the larger the step, the less. A body that floats with nothing on it has
equations of its own, six, so for it the step is looked at ahead, in rounds: each solves them with the friction that the round
before allows, and has N of every contact from their solution. At rest every round finds no acceleration and the same N,
whatever holds the body, friction included. In an impact the error falls, from round to round, by the share that friction has in
what accelerates the body along the normals; docs/model.md says what two leave.

A follower does not feel its leader's acceleration (contact.py), so its equations are complete. A leader feels the reactions of
its followers, which therefore come first: of two bodies that float they are the later in the scene (layout.py).

The sliding speed is looked ahead at in the same way. Friction is -c v with c = mu N / |v| (viscosity), v being the velocity of
the step's end: with |v| of the beginning, what begins to slide is braked by a multiple of mu N, and what slides down a plane
stays behind the more, the longer the step. Where it gets faster, |v| of the end is asked for (slide). Where it gets slower,
that of the beginning stays, and it is braked by a little less than mu N: rounds that are not at their end could exceed it.

What of a contact a round or the step asks for is kept from `meet` in s.wait; the equations of round r lie in columns
(r + 1) · nl + i of the links' contact and acceleration.
"""

import warp as wp

from .rotations import cross_columns, rows_cross
from .types import ALONE, Model, Scratch, mat33, real, vec3


@wp.func
def viscosity(friction: real, grip: real, v: real, slip_speed: real):
    """Friction over sliding velocity [N s/m] where the normal force is `grip` and the speed v."""
    return friction * grip / wp.sqrt(v * v + slip_speed * slip_speed)


@wp.func
def yielding(n: vec3, along: real, across: real):
    """By how much a contact's force falls with the acceleration of its point [kg]."""
    return wp.outer(n, n) * (along - across) + wp.identity(n=3, dtype=real) * across


@wp.func
def push(s: Scratch, e: int, i: int, r: vec3, F: vec3, K: mat33):
    """Add, in column i, a force F [N] at r [m] from the link's origin that falls by K times the point's acceleration. The
    solver counts accelerations from free fall, so F holds the share -K·gravity."""
    Y = cross_columns(r, K)
    wp.atomic_add(s.force, e, i, F)
    wp.atomic_add(s.torque, e, i, wp.cross(r, F))
    wp.atomic_add(s.Gvv, e, i, K)
    wp.atomic_add(s.Gwv, e, i, Y)
    wp.atomic_add(s.Gww, e, i, -rows_cross(Y, r))


@wp.func
def clear_contact(s: Scratch, e: int, i: int):
    """No contact wrench in column i."""
    s.force[e, i] = vec3()
    s.torque[e, i] = vec3()
    s.Gww[e, i] = mat33()
    s.Gwv[e, i] = mat33()
    s.Gvv[e, i] = mat33()


@wp.func
def side_of(m: Model, b: int, i: int):
    """1 if link i has the points of probe b, -1 if it is what they are tested against."""
    return wp.where(m.geom_link[m.probe_geom[b]] == i, real(1.0), real(-1.0))


@wp.func
def foresee(m: Model, s: Scratch, e: int, c: int, b: int, r: int):
    """Normal force of the c-th contact, of probe b, at the end of the step, as it is known after r rounds."""
    fn = s.wait[e, 4 * c + 3]
    N = fn[0]
    if r > 0:
        i = m.probe_lone[b]
        at = r * m.nl + i  # column of the round before
        a = s.av[e, at] + wp.cross(s.aw[e, at], s.wait[e, 4 * c + 1] - s.p[e, i]) + m.gravity[e]
        N = wp.max(N - fn[1] * side_of(m, b, i) * wp.dot(s.wait[e, 4 * c], a), real(0.0))
    return N


@wp.func
def ahead(m: Model, s: Scratch, e: int, c: int, b: int, r: int):
    """Sliding speed [m/s] that the friction of the c-th contact, of probe b, meets by the solution of round r - 1; before any
    round, that of the step's beginning."""
    v = s.wait[e, 4 * c + 2]
    if r > 0:
        i = m.probe_lone[b]
        at = r * m.nl + i
        n = s.wait[e, 4 * c]
        a = s.av[e, at] + wp.cross(s.aw[e, at], s.wait[e, 4 * c + 1] - s.p[e, i]) + m.gravity[e]
        v = v + (a - n * wp.dot(n, a)) * (m.implicit * m.probe_gain[b] * m.h * side_of(m, b, i))
    return wp.sqrt(wp.dot(v, v) + real(1.0e-12))


@wp.func
def eased(begin: real, v: real, best: real, slip_speed: real):
    """`best` where v is more than `begin`, by and by, so that derivatives know no corner where nothing gets faster."""
    rise = wp.clamp((v - begin) / (real(0.05) * begin + slip_speed), real(0.0), real(1.0))
    return begin + (best - begin) * rise * rise * (real(3.0) - real(2.0) * rise)


@wp.func
def slide(m: Model, s: Scratch, e: int, c: int, b: int, r: int):
    """Sliding speed of the c-th contact, of probe b, by which friction is judged after r rounds, two at most: that of the step's
    beginning, or of its end where that is more."""
    begin = ahead(m, s, e, c, b, 0)
    v = ahead(m, s, e, c, b, r)
    best = v
    if r > 1 and v > begin:
        slip = m.slip_speed
        before = ahead(m, s, e, c, b, 1)
        was = viscosity(real(1.0), foresee(m, s, e, c, b, 0), begin, slip)
        now = viscosity(real(1.0), foresee(m, s, e, c, b, 1), eased(begin, before, before, slip), slip)
        # 1 / speed is linear in what brakes, N / speed: the speed is asked for that brakes as it takes
        if was - now > real(1.0e-6) * was:
            slope = (real(1.0) / before - real(1.0) / v) / (was - now)
            free = real(1.0) / before - slope * was
            left = real(1.0) - slope * foresee(m, s, e, c, b, 2)
            if free > real(0.0) and left > free * v:
                best = left / free
    return eased(begin, v, best, m.slip_speed)


@wp.func
def lean(m: Model, s: Scratch, e: int, c: int, r: int):
    """Add the c-th contact to the equations of the body that has its implicit term, if that floats by itself."""
    b = s.contact_probe[e, c]
    i = m.probe_lone[b]
    if i >= 0:
        n = s.wait[e, 4 * c]
        x = s.wait[e, 4 * c + 1] - s.p[e, i]
        vt = s.wait[e, 4 * c + 2]
        fn = s.wait[e, 4 * c + 3]
        viscous = viscosity(m.pair_friction[e, m.probe_pair[b]], foresee(m, s, e, c, b, r), slide(m, s, e, c, b, r), m.slip_speed)
        K = yielding(n, fn[1], m.implicit * m.probe_gain[b] * m.h * viscous)
        F = (n * fn[0] - vt * viscous) * side_of(m, b, i) - K * m.gravity[e]
        push(s, e, (r + 1) * m.nl + i, x, F, K)


@wp.func_replay(lean)
def replay_lean(m: Model, s: Scratch, e: int, c: int, r: int):
    pass


@wp.func
def inverse(M: mat33):
    """Inverse of a positive definite matrix; scaled, for the determinant of a tiny body's would leave float32's range."""
    scale = real(3.0) / wp.trace(M)
    return wp.inverse(M * scale) * scale


@wp.func
def weigh(m: Model, s: Scratch, e: int, i: int, r: int):
    """Acceleration of link i, which floats by itself: its equations in solve.py, solved by blocks."""
    k = m.v_adr[i]
    at = (r + 1) * m.nl + i
    mass = m.mass[e, i]
    R = s.R[e, i]
    Rt = wp.transpose(R)
    w = s.w[e, i]
    one = wp.identity(n=3, dtype=real)
    x = R * m.com[e, i]
    mx = x * mass
    I = R * m.inertia[e, i] * Rt
    f = (wp.cross(w, wp.cross(w, x)) + m.gravity[e] * m.gravcomp[i]) * mass
    dv = vec3(s.extra[e, k], s.extra[e, k + 1], s.extra[e, k + 2])
    dw = vec3(s.extra[e, k + 3], s.extra[e, k + 4], s.extra[e, k + 5])
    tv = vec3(s.drive[e, k], s.drive[e, k + 1], s.drive[e, k + 2])
    tw = vec3(s.drive[e, k + 3], s.drive[e, k + 4], s.drive[e, k + 5])
    A = I - wp.outer(mx, x) + one * wp.dot(mx, x) + R * wp.diag(dw) * Rt + s.Gww[e, at]
    B = wp.skew(mx) + s.Gwv[e, at]
    C = inverse(one * mass + wp.diag(dv) + s.Gvv[e, at])
    bw = R * tw - wp.cross(w, I * w) - wp.cross(x, f) + s.torque[e, at]
    bv = tv - f - wp.cw_mul(dv, m.gravity[e]) + s.force[e, at]
    D = B * C
    xw = inverse(A - D * wp.transpose(B)) * (bw - D * bv)
    s.aw[e, at] = xw
    s.av[e, at] = C * (bv - wp.transpose(B) * xw)


@wp.func_replay(weigh)
def replay_weigh(m: Model, s: Scratch, e: int, i: int, r: int):
    pass


@wp.func
def rest_upon(m: Model, s: Scratch, e: int, c: int, i: int, r: int):
    """The c-th contact's reaction on what carries link i, if that floats by itself too."""
    b = s.contact_probe[e, c]
    j = m.probe_leader[b]
    if m.probe_lone[b] == i and j >= 0:  # noqa: SIM102  (Warp would look up both sides of an `and`, and j may be -1)
        if m.moves[j] == ALONE:
            n = s.wait[e, 4 * c]
            place = s.wait[e, 4 * c + 1]
            vt = s.wait[e, 4 * c + 2]
            fn = s.wait[e, 4 * c + 3]
            viscous = viscosity(
                m.pair_friction[e, m.probe_pair[b]], foresee(m, s, e, c, b, r), slide(m, s, e, c, b, r), m.slip_speed
            )
            K = yielding(n, fn[1], m.implicit * m.probe_gain[b] * m.h * viscous)
            at = (r + 1) * m.nl + i
            a = s.av[e, at] + wp.cross(s.aw[e, at], place - s.p[e, i]) + m.gravity[e]
            F = (n * fn[0] - vt * viscous) * side_of(m, b, i) - K * a
            wp.atomic_add(s.torque, e, (r + 1) * m.nl + j, -wp.cross(place - s.p[e, j], F))
            wp.atomic_add(s.force, e, (r + 1) * m.nl + j, -F)


@wp.func_replay(rest_upon)
def replay_rest_upon(m: Model, s: Scratch, e: int, c: int, i: int, r: int):
    pass


@wp.func
def settle(m: Model, s: Scratch, e: int, r: int):
    """Round r: accelerations of all links that float by themselves."""
    for i in range(1, m.nl):
        if m.moves[i] == ALONE:
            clear_contact(s, e, (r + 1) * m.nl + i)
    for c in range(s.n_contacts[e]):
        lean(m, s, e, c, r)
    for n in range(1, m.nl):
        i = m.nl - n
        if m.moves[i] == ALONE:
            weigh(m, s, e, i, r)
            if m.passes > 0:
                for c in range(s.n_contacts[e]):
                    rest_upon(m, s, e, c, i, r)
