"""Contact of two solids: surface points of one against the signed distance of the other, both ways.

Each point is a spring k·pen(d), with Hunt and Crossley's damping factor (1 - c·vn) and Coulomb friction that is viscous
below `slip_speed`. pen is zero beyond a small distance and has continuous derivatives.

Over a step the force is linearised about the motion without acceleration (one Newton step of implicit Euler):
F = F(d + h·vn) - K a, a being the acceleration of the point. K enters the articulated inertia of the link, which is why
light bodies stay stable at large steps.

Where both bodies move, K counts twice, for the other's acceleration is not in it. If the two move independently, one
follows and the other leads: the follower has F - 2 K a with its own acceleration a, and the leader gets the reaction, so
momentum is kept to the last digit. With masses in the ratio r = follower / leader, felt at the contact, and K far above
both, a step is stable for (1 + r) / 2 < 4/3. Two links of one tree cannot be told apart like this: each has F - 2 K a with
its own acceleration (the block-diagonal bound of [[K, -K], [-K, K]]): right at rest, but not in an impact.
"""

import warp as wp

from .distance import distance, gap, normal
from .grip import clear_contact, foresee, push, settle, slide, viscosity, yielding
from .hulls import distance_hull, gap_hull
from .types import MESH, ROUNDS, Model, Scratch, mat33, real, vec3


@wp.func
def ramp(d: real, width: real):
    """Penetration [m] for a distance d [m]: zero for d > width, -d for d < -width, in between the integral of a
    smooth step, which has two continuous derivatives."""
    u = wp.clamp((width - d) / (real(2.0) * width), real(0.0), real(1.0))
    return real(2.0) * width * u * u * u * (real(1.0) - real(0.5) * u) + wp.max(-d - width, real(0.0))


@wp.func
def ramp_slope(d: real, width: real):
    """Minus the derivative of `ramp`: 0 away from contact, 1 inside."""
    u = wp.clamp((width - d) / (real(2.0) * width), real(0.0), real(1.0))
    return u * u * (real(3.0) - real(2.0) * u)


@wp.func
def pose_geom(m: Model, s: Scratch, e: int, g: int):
    """World pose of a geom."""
    i = m.geom_link[g]
    s.gR[e, g] = s.R[e, i] * m.geom_R[e, g]
    s.gp[e, g] = s.p[e, i] + s.R[e, i] * m.geom_p[e, g]


@wp.func_replay(pose_geom)
def replay_pose_geom(m: Model, s: Scratch, e: int, g: int):
    pass


@wp.func
def pose_geoms(m: Model, s: Scratch, e: int):
    """World poses of all geoms that may touch."""
    for g in range(m.ng):
        pose_geom(m, s, e, g)


@wp.func
def reach_of(m: Model, s: Scratch, e: int, a: int, b: int, g: int):
    """Distance beyond which no point of geom g on link a can feel a geom on link b in this step [m]: the width of the
    ramp, the way that the fastest of its points can go, and the rounding that `gap` leaves out."""
    r = s.gp[e, g] - s.p[e, b]
    w = s.w[e, a] - s.w[e, b]
    v = s.v[e, a] + wp.cross(s.w[e, a], s.gp[e, g] - s.p[e, a]) - s.v[e, b] - wp.cross(s.w[e, b], r)
    return m.contact_width + m.edge_radius / real(6.0) + m.h * (wp.length(v) + wp.length(w) * m.bound[e, g])


@wp.func
def find_on_hull(m: Model, s: Scratch, e: int, b: int, first: int):
    """`find_contacts` for a probe against a mesh; apart, for the other solids' loop is faster without it."""
    n = int(first)
    gp = m.probe_geom[b]
    gs = m.probe_shape[b]
    link = m.geom_link[gp]
    to_shape = wp.transpose(s.gR[e, gs])
    size = m.geom_size[e, gs]
    reach = reach_of(m, s, e, link, m.geom_link[gs], gp)
    if gap_hull(m, gs, to_shape * (s.gp[e, gp] - s.gp[e, gs]), size) < m.bound[e, gp] + reach:
        R = to_shape * s.R[e, link]
        p = to_shape * (s.p[e, link] - s.gp[e, gs])
        for j in range(m.probe_first[b], m.probe_last[b]):
            if gap_hull(m, gs, R * m.point[e, j] + p, size) < m.point_radius[e, j] + reach:
                s.contact_point[e, n] = j
                s.contact_probe[e, n] = b
                n = n + 1
    return n


@wp.func
def find_contacts(m: Model, s: Scratch, e: int):
    """List the points that may feel a force. No gradient: beyond reach the force is exactly zero."""
    n = int(0)  # noqa: RUF046, UP018  (a bare literal is a constant to Warp)
    for b in range(m.n_probes):
        gp = m.probe_geom[b]
        gs = m.probe_shape[b]
        kind = m.geom_type[gs]
        if kind == MESH:
            n = find_on_hull(m, s, e, b, n)
        else:
            link = m.geom_link[gp]
            to_shape = wp.transpose(s.gR[e, gs])
            center = to_shape * (s.gp[e, gp] - s.gp[e, gs])
            size = m.geom_size[e, gs]
            reach = reach_of(m, s, e, link, m.geom_link[gs], gp)
            if gap(kind, center, size) < m.bound[e, gp] + reach:
                R = to_shape * s.R[e, link]
                p = to_shape * (s.p[e, link] - s.gp[e, gs])
                for j in range(m.probe_first[b], m.probe_last[b]):
                    if gap(kind, R * m.point[e, j] + p, size) < m.point_radius[e, j] + reach:
                        s.contact_point[e, n] = j
                        s.contact_probe[e, n] = b
                        n = n + 1
    s.n_contacts[e] = n


@wp.func_grad(find_contacts)
def adj_find_contacts(m: Model, s: Scratch, e: int):
    pass


@wp.func
def remember(s: Scratch, e: int, c: int, F: vec3, K: mat33, follower: vec3, leader: vec3):
    """Keep what the reaction on the leader is made of."""
    s.cF[e, c] = F
    s.cK[e, c] = K
    s.cf[e, c] = follower
    s.cl[e, c] = leader


@wp.func
def exert(
    m: Model, s: Scratch, e: int, c: int, n: vec3, place: vec3, vt: vec3, fn: real, along: real, grip: real, speed: real
):  # fmt: skip
    """Force of the c-th listed contact on both bodies, equal and opposite at the same place."""
    b = s.contact_probe[e, c]
    ia = m.geom_link[m.probe_geom[b]]
    ib = m.geom_link[m.probe_shape[b]]
    ra = place - s.p[e, ia]
    rb = place - s.p[e, ib]
    viscous = viscosity(m.pair_friction[e, m.probe_pair[b]], grip, speed, m.slip_speed)
    K = yielding(n, along, m.implicit * m.probe_gain[b] * m.h * viscous)
    F = n * fn - vt * viscous
    g = m.gravity[e]
    if m.probe_follower[b] == ia:
        remember(s, e, c, F - K * g, K, ra, rb)
        push(s, e, ia, ra, F - K * g, K)
    elif m.probe_follower[b] == ib:
        remember(s, e, c, -F - K * g, K, rb, ra)
        push(s, e, ib, rb, -F - K * g, K)
    else:
        if m.moves[ia] > 0:
            push(s, e, ia, ra, F - K * g, K)
        if m.moves[ib] > 0:
            push(s, e, ib, rb, -F - K * g, K)


@wp.func_replay(exert)
def replay_exert(
    m: Model, s: Scratch, e: int, c: int, n: vec3, place: vec3, vt: vec3, fn: real, along: real, grip: real, speed: real
):  # fmt: skip
    pass


@wp.func
def meet(m: Model, s: Scratch, e: int, c: int):
    """The c-th listed contact: exert its force, or keep what it is made of where its friction must wait (see grip.py)."""
    j = s.contact_point[e, c]
    b = s.contact_probe[e, c]
    gs = m.probe_shape[b]
    ia = m.geom_link[m.probe_geom[b]]
    ib = m.geom_link[gs]
    pair = m.probe_pair[b]
    Rs = s.gR[e, gs]
    x = s.p[e, ia] + s.R[e, ia] * m.point[e, j]
    at = wp.transpose(Rs) * (x - s.gp[e, gs])
    kind = m.geom_type[gs]
    if kind == MESH:
        local = distance_hull(m, gs, at, m.geom_size[e, gs], m.edge_radius)
    else:
        local = distance(kind, at, m.geom_size[e, gs], m.edge_radius)
    n = Rs * normal(local)
    place = x - n * m.point_radius[e, j]
    ra = place - s.p[e, ia]
    rb = place - s.p[e, ib]
    v = s.v[e, ia] + wp.cross(s.w[e, ia], ra) - s.v[e, ib] - wp.cross(s.w[e, ib], rb)
    vn = wp.dot(v, n)
    vt = v - n * vn

    ahead = local[3] - m.point_radius[e, j] + m.implicit * m.h * vn
    k = m.pair_stiffness[e, pair]
    spring = k * ramp(ahead, m.contact_width)
    u = real(1.0) - m.pair_damping[e, pair] * vn
    root = wp.sqrt(u * u + real(1.0e-3))
    stiff = m.h * k * ramp_slope(ahead, m.contact_width) * real(0.5) * (u + root)
    damp = spring * m.pair_damping[e, pair] * real(0.5) * (real(1.0) + u / root)
    fn = spring * real(0.5) * (u + root)  # never pulls
    along = m.implicit * m.probe_gain[b] * m.h * (stiff + damp)
    if m.probe_lone[b] >= 0:
        s.wait[e, 4 * c] = n
        s.wait[e, 4 * c + 1] = place
        s.wait[e, 4 * c + 2] = vt
        s.wait[e, 4 * c + 3] = vec3(fn, along, real(0.0))
    else:
        exert(m, s, e, c, n, place, vt, fn, along, fn, wp.sqrt(wp.dot(vt, vt) + real(1.0e-12)))


@wp.func_replay(meet)
def replay_meet(m: Model, s: Scratch, e: int, c: int):
    pass


@wp.func
def touch(m: Model, s: Scratch, e: int, c: int):
    """Exert the c-th contact's force if it has waited."""
    b = s.contact_probe[e, c]
    if m.probe_lone[b] >= 0:
        grip = foresee(m, s, e, c, b, ROUNDS)
        fn = s.wait[e, 4 * c + 3]
        exert(
            m,
            s,
            e,
            c,
            s.wait[e, 4 * c],
            s.wait[e, 4 * c + 1],
            s.wait[e, 4 * c + 2],
            fn[0],
            fn[1],
            grip,
            slide(m, s, e, c, b, ROUNDS),
        )


@wp.func_replay(touch)
def replay_touch(m: Model, s: Scratch, e: int, c: int):
    pass


@wp.func
def touch_all(m: Model, s: Scratch, e: int):
    """Contact wrenches of all links, but for those that wait."""
    for i in range(1, m.nl):
        clear_contact(s, e, i)
    for c in range(s.n_contacts[e]):
        meet(m, s, e, c)


@wp.func
def touch_rest(m: Model, s: Scratch, e: int):
    """Contact wrenches that had to wait."""
    for r in range(ROUNDS):
        settle(m, s, e, r)
    for c in range(s.n_contacts[e]):
        touch(m, s, e, c)
