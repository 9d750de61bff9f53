"""Number types and the structs of arrays that the kernels read and write.

Index e is the environment, i a link, k a degree of freedom, g a geom. All vectors are in world axes unless said.
Spatial quantities refer to the link's own origin, which keeps float32's digits far from the world's origin.
"""

import warp as wp

real = wp.float64 if __package__.endswith("64") else wp.float32
vec3 = wp.types.vector(3, real)
vec4 = wp.types.vector(4, real)
vec6 = wp.types.vector(6, real)
mat33 = wp.types.matrix((3, 3), real)
quat = wp.types.quaternion(real)

Ints = wp.array(dtype=int)
Ints2 = wp.array2d(dtype=int)
Reals = wp.array(dtype=real)
Reals2 = wp.array2d(dtype=real)
Reals3 = wp.array3d(dtype=real)
Vectors = wp.array(dtype=vec3)
Vectors2 = wp.array2d(dtype=vec3)
Sizes2 = wp.array2d(dtype=vec6)
Matrices2 = wp.array2d(dtype=mat33)

FREE = wp.constant(0)
BALL = wp.constant(1)
SLIDE = wp.constant(2)
HINGE = wp.constant(3)

PLANE = wp.constant(0)
SPHERE = wp.constant(2)
CAPSULE = wp.constant(3)
CYLINDER = wp.constant(5)
BOX = wp.constant(6)
MESH = wp.constant(7)
BLOCK_WITH_HOLE = wp.constant(100)
DISC = wp.constant(101)

ALONE = wp.constant(2)  # what moves, and floats in the world with no other link on it
ROUNDS = wp.constant(2)  # of looking ahead for the normal forces that bound friction; see grip.py


@wp.struct
class Model:
    """What is constant in time. The first block is structure, the second differentiable parameters."""

    nl: int  # links, the world included
    nv: int
    ng: int  # geoms that take part in contact
    n_probes: int
    h: real  # time step [s]
    implicit: real  # 1: contact linearised over the step, 0: explicit
    slip_speed: real  # below this speed friction is viscous [m/s]
    contact_width: real  # half width of the ramp of the normal force [m]
    edge_radius: real  # rounding of edges in distances [m]
    limit_stiffness: real  # of joint limits [N m/rad or N/m]
    limit_damping: real  # [N m s/rad or N s/m]
    limit_width: real  # [rad or m]
    parent: Ints
    joint_type: Ints
    q_adr: Ints
    v_adr: Ints
    nd: Ints
    moves: Ints  # (nl) 1 where the link can move at all, ALONE where it floats with nothing on it
    axis: Vectors  # in the link's frame
    q0: Reals
    gravcomp: Reals
    limit_low: Reals  # (nv), -inf where there is none
    limit_high: Reals
    geom_link: Ints
    geom_type: Ints
    probe_geom: Ints  # (probes) geom whose points are tested ...
    probe_shape: Ints  # ... against the distance to this geom ...
    probe_pair: Ints  # ... with this pair's coefficients
    probe_first: Ints  # range of the geom's points
    probe_last: Ints
    probe_gain: Reals  # 2 where both bodies move, else 1; see contact.py
    probe_follower: Ints  # link that takes the implicit term while the other takes the reaction, or -1
    probe_leader: Ints  # that other link
    probe_lone: Ints  # link that floats alone, if it takes the implicit term of this contact, or -1
    passes: int  # rounds until every reaction is known: how deep bodies that follow each other are stacked
    hull_first: Ints  # (ng + 1) where the sides of each geom begin; only meshes have any
    hull_normal: Vectors  # (sides) a side is normal · x / size = offset, in the geom's frame; see hulls.py
    hull_offset: Reals
    bound: Reals2  # (E, ng) radius of a ball around the geom's origin that holds its points [m]

    link_p: Vectors2  # (E, nl) as in samrl.model.scene.Params, down to gravity
    link_R: Matrices2
    joint_p: Vectors2
    mass: Reals2
    com: Vectors2
    inertia: Matrices2
    stiffness: Reals2
    damping: Reals2
    armature: Reals2
    gravity: Vectors  # (E)
    geom_p: Vectors2
    geom_R: Matrices2
    geom_size: Sizes2
    point: Vectors2  # (E, points) in the link's frame [m]
    point_radius: Reals2  # radius of the ball that the point stands for [m]
    pair_friction: Reals2
    pair_stiffness: Reals2
    pair_damping: Reals2


@wp.struct
class Scratch:
    """Working memory of a step. The first block is differentiated by Warp, the second is not."""

    R: Matrices2  # (E, nl) link axes in the world
    p: Vectors2  # origin [m]
    arm: Vectors2  # joint anchor -> link origin [m]
    w: Vectors2  # angular velocity [rad/s]
    v: Vectors2  # velocity of the origin [m/s]
    cw: Vectors2  # acceleration that the link has from velocities alone, angular [rad/s²]
    cv: Vectors2  # ... and linear [m/s²]
    Sw: Vectors2  # (E, nv) joint axis, angular part
    Sv: Vectors2  # ... linear part
    gR: Matrices2  # (E, ng) geom axes in the world
    gp: Vectors2  # geom origin [m]
    # with bodies that float alone, contact and acceleration have ROUNDS · nl more columns, one for each round; see grip.py
    torque: Vectors2  # (E, nl) contact torque about the origin [N m]
    force: Vectors2  # contact force [N]
    Gww: Matrices2  # inertia-like change of the contact wrench with the link's acceleration
    Gwv: Matrices2
    Gvv: Matrices2
    drive: Reals2  # (E, nv) joint forces known at the start of the step [N m or N]
    extra: Reals2  # armature and what the implicit joint forces add to it [kg m² or kg]
    wait: Vectors2  # (E, 4 · capacity) of contacts that wait for grip.py: normal, place [m], sliding velocity [m/s], and (normal
    # force before the bodies accelerate [N], by how much it falls with the acceleration along the normal [kg], 0)
    cF: Vectors2  # (E, capacity) force on the follower of a contact before it accelerates [N]
    cK: Matrices2  # ... by how much it falls with the acceleration of the contact point [kg]
    cf: Vectors2  # follower's origin -> contact point [m]
    cl: Vectors2  # leader's origin -> contact point
    aw: Vectors2  # (E, nl) acceleration, angular; linear minus gravity
    av: Vectors2
    bw: Vectors2  # (E, nl) wrench that the joint must pass, torque; force
    bv: Vectors2
    residual: Reals2  # (E, nv) inverse dynamics minus drive
    qdd: Reals2  # (E, nv)

    qdd_value: Reals2  # the memory of qdd, taken as a constant
    qdd_grad: Reals2
    residual_grad: Reals2
    Iww: Matrices2  # articulated inertia
    Iwv: Matrices2
    Ivv: Matrices2
    pw: Vectors2  # articulated bias wrench
    pv: Vectors2
    xw: Vectors2  # accelerations in the solver
    xv: Vectors2
    rw: Vectors2  # reaction of the followers, torque
    rv: Vectors2  # ... and force
    Uw: Vectors2  # (E, nv) articulated inertia times joint axis
    Uv: Vectors2
    inv_D: Reals2
    u: Reals2
    n_contacts: Ints  # (E)
    contact_point: Ints2  # (E, capacity)
    contact_probe: Ints2
