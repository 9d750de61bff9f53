"""The scenes of the table of physics gradients: what moves, how it is driven, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

BODY = ("mass", "com", "inertia", "link_p", "link_R", "joint_p", "gravity")
JOINT = ("stiffness", "damping", "armature")
CONTACT = ("friction", "geom_size", "geom_p", "geom_R", "contact_stiffness", "contact_damping")
FREE_OF_CONTACT, IN_CONTACT = 1e-6, 1e-4  # of the largest entry: how far a gradient may be from differences


@dataclass(frozen=True)
class Case:
    """xml; leaves: of the parameters, beside state, set-points and torques; bound: see above; q, qd: the start, the reference at
    rest where not given; setpoints: coordinate -> where it is pulled to, reached in the middle of the rollout; periods of
    substeps each."""

    xml: str
    leaves: tuple[str, ...]
    bound: float
    q: tuple[float, ...] = ()
    qd: tuple[float, ...] = ()
    setpoints: dict[int, float] = field(default_factory=dict)
    periods: int = 10
    substeps: int = 50


def mjcf(bodies: str, *, timestep: float = 0.002, contact: bool = True, more: str = "") -> str:
    """A world of these bodies, angles in radian."""
    flag = "" if contact else '<flag contact="disable"/>'
    return (
        f'<mujoco><compiler angle="radian"/><option timestep="{timestep}">{flag}</option>{more}'
        f"<worldbody>{bodies}</worldbody></mujoco>"
    )


def chain(joints: tuple[str, ...], body: str) -> str:
    """Bodies one within the other, each with its joints and the same geom, .3 m apart along x."""
    text = "".join(f'<body pos="{0.3 * (i > 0)} 0 0">{joint}{body}' for i, joint in enumerate(joints))
    return text + "</body>" * len(joints)


def arm(tip: str = "", contact: bool = False, more: str = "") -> str:
    """Seven hinges under impedance control, their anchors and masses off the links' axes; `tip` goes into the last link."""
    text = ""
    for i in range(7):
        turn = f"{0.17 * i} .35 -.26"
        text += f"""<body pos=".1 .01 .02" euler="{turn}" gravcomp="1">
          <joint axis="{i % 2} {(i + 1) % 2} 1" pos=".01 .02 0" stiffness="60" damping="4" armature=".1"/>
          <geom type="box" size=".05 .03 .02" pos=".05 0 0" contype="0" conaffinity="0"/>"""
    return mjcf(text + tip + "</body>" * 7 + more, contact=contact)


def peg(x: float, z: float, chamfer: float = 0.003) -> str:
    """A 16 mm peg on springs over a 16.5 mm hole with a chamfer or without, the block a little turned."""
    springs = "".join(f'<joint type="slide" axis="{a}" stiffness="500" damping="5"/>' for a in ("1 0 0", "0 1 0", "0 0 1"))
    return mjcf(
        f"""<body name="block" pos=".001 .0005 0" euler=".02 -.03 .1"><geom name="block" type="box" size=".05 .05 .03"/></body>
        <body name="peg" pos="{x} 0 {z}">{springs}<joint type="ball" stiffness="5" damping=".05"/>
        <geom name="peg" type="cylinder" size=".008 .04" mass=".06"/></body>""",
        more=f'<custom><numeric name="samrl_hole/block" data=".00825 .04 {chamfer}"/></custom>',
    )


def thread(count: int, before: str = "", more: str = "") -> str:
    """Capsules of 39 mg that hang from a hand on springs, with a ball joint between each and the next."""
    hand = "".join(f'<joint type="slide" axis="{a}" stiffness="20" damping=".5"/>' for a in ("1 0 0", "0 1 0", "0 0 1"))
    joint = '<joint type="ball" stiffness="1e-4" damping="1e-6"/>'
    geom = '<geom type="capsule" fromto="0 0 0 0 0 -.01" size=".001" density="1100"/>'
    text = f'<body pos="0 0 .35">{hand}<geom type="sphere" size=".004" mass=".02"/>'
    text += "".join(f'<body pos="0 0 {-0.01 * (i > 0)}">{joint}{geom}' for i in range(count))
    return mjcf(before + text + "</body>" * (count + 1), timestep=0.001, more=more)


GEM = np.array(  # corners of a convex mesh without two sides that are parallel
    [[-1, -0.8, -0.3], [1, -0.9, -0.35], [0.9, 1, -0.3], [-0.8, 0.7, -0.4], [-0.6, -0.5, 1], [0.7, -0.4, 0.9], [0.1, 0.6, 1.1]]
)


def gem(wide: float, high: float) -> str:
    """The corners of a gem for MJCF."""
    return " ".join(f"{x:.6g}" for x in (GEM * [wide, wide, high]).ravel())


GEMS = f'<asset><mesh name="large" vertex="{gem(0.09, 0.03)}"/><mesh name="small" vertex="{gem(0.02, 0.015)}"/></asset>'
HINGE = '<joint axis="0 1 0" damping=".01" pos=".01 0 .02"/>'
BALL = '<joint type="ball" damping=".005" stiffness=".05" pos=".01 .02 0"/>'
ROD = '<geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>'
TREE = """<body pos="0 0 1" gravcomp=".3"><freejoint/><geom type="cylinder" size=".1 .01" density="500" pos=".01 .02 0"/>
  <body pos=".1 0 0"><joint type="ball" pos="-.01 0 .02" stiffness=".5" damping=".01"/>
    <geom type="box" size=".05 .02 .01" pos=".05 0 0"/>
    <body pos=".1 0 0" euler=".35 .52 .17"><joint type="slide" axis="1 1 0" range="-.01 .01" limited="true"/>
      <joint axis="0 0 1" pos=".01 .02 0" stiffness=".3" damping=".01" armature=".001"/>
      <geom type="box" size=".05 .02 .03" pos=".05 .02 0"/></body></body></body>"""
HALF = math.sqrt(0.5)
STILL = (1.0, 0.0, 0.0, 0.0)
RING = "".join(  # four capsules in a square, 7 mm across within
    f'<geom type="capsule" fromto="{a} .045 {b} .045" size=".002" friction=".3"/>'
    for a, b in ((".0076 0", "0 .0076"), ("0 .0076", "-.0076 0"), ("-.0076 0", "0 -.0076"), ("0 -.0076", ".0076 0"))
)

CASES = {
    "two hinges": Case(mjcf(chain((HINGE, HINGE), ROD), contact=False), BODY + JOINT, FREE_OF_CONTACT, q=(0.4, 0.3)),
    "three hinges": Case(mjcf(chain((HINGE,) * 3, ROD), contact=False), BODY + JOINT, FREE_OF_CONTACT, q=(0.4, 0.3, -0.5)),
    "two spherical joints": Case(
        mjcf(chain((BALL, BALL), ROD), contact=False), BODY + JOINT, FREE_OF_CONTACT,
        q=(0.8, 0.0, 0.6, 0.0, 0.6, 0.0, 0.0, 0.8), qd=(0.5, -0.5, 1.0, 0.3, 0.2, -0.4),
    ),
    "arm under impedance": Case(
        arm(), BODY + JOINT, FREE_OF_CONTACT, qd=(0.3, -0.2, 0.5, 0.1, 0.4, -0.3, 0.2), setpoints={1: 0.4, 3: -0.3},
    ),
    "tumbling body": Case(
        mjcf('<body pos="0 0 1"><freejoint/><geom type="box" size=".1 .06 .02" mass=".5"/></body>', contact=False),
        BODY, FREE_OF_CONTACT, q=(0, 0, 1, 0.8, 0, 0.6, 0), qd=(0.2, -0.1, 2, 1, 3, -2),
    ),
    "floating tree": Case(
        mjcf(TREE, contact=False), BODY + JOINT, FREE_OF_CONTACT,
        q=(0, 0, 1, 0.8, 0, 0.6, 0, HALF, 0.5, -0.5, 0, 0.005, 0.2), qd=tuple(0.5 * (-1) ** i for i in range(11)), periods=4,
    ),
    "joint at its limit": Case(
        mjcf('<body><joint axis="0 1 0" range="-.3 .3" limited="true" damping=".05" stiffness="4"/>' + ROD + "</body>"),
        BODY + JOINT, IN_CONTACT, q=(0.2,), setpoints={0: 0.8},
    ),
    "box slides and stops": Case(
        mjcf("""<geom type="plane" size="1 1 .1" friction=".4"/>
        <body><freejoint/><geom type="box" size=".05 .04 .02" mass=".2" friction=".4"/></body>"""),
        BODY + CONTACT, IN_CONTACT, q=(0, 0, 0.02, *STILL), qd=(0.8, 0.3, 0, 0, 0, 1.0),
    ),
    "box slides down": Case(
        mjcf("""<geom type="plane" size="1 1 .1" friction=".3" euler="0 .6 .2"/>
        <body><freejoint/><geom type="box" size=".05 .04 .02" mass=".2" friction=".3"/></body>""", timestep=0.005),
        BODY + CONTACT, IN_CONTACT, q=(0.0113, 0, 0.0165, math.cos(0.3), 0, math.sin(0.3), 0), qd=(0.02, 0.03, 0, 0, 0, 0.4),
    ),
    "box lands on a corner and slides": Case(
        mjcf("""<geom type="plane" size="1 1 .1" friction=".3"/><body><freejoint/>
        <geom type="box" size=".05 .04 .02" mass=".2" friction=".3" pos=".003 -.002 .001"/></body>""", timestep=0.001),
        BODY + CONTACT, IN_CONTACT, q=(0, 0, 0.042, 0.96, 0.2, -0.15, 0.1), qd=(0.8, 0.3, -0.6, 1, -2, 3), substeps=12,
    ),
    "ball rolls on a plane": Case(
        mjcf("""<geom type="plane" size="1 1 .1" friction=".5"/>
        <body><freejoint/><geom type="sphere" size=".02" mass=".05" friction=".5"/></body>"""),
        BODY + CONTACT, IN_CONTACT, q=(0, 0, 0.0201, *STILL), qd=(0.3, 0.1, 0, 2, 4, 1.0),
    ),
    "arm presses on a table": Case(
        arm(
            tip='<geom type="sphere" size=".02" pos=".1 0 0" friction=".6"/>', contact=True,
            more='<geom type="box" size=".5 .5 .02" pos=".57 .05 -.1" friction=".6"/>',
        ),
        BODY + JOINT + CONTACT, IN_CONTACT, setpoints={0: 0.1, 1: 0.4, 3: 0.2},
    ),
    "peg on the chamfer": Case(peg(0.003, 0.0705), BODY + JOINT + CONTACT, IN_CONTACT, setpoints={0: 0.003, 2: -0.01}),
    "peg deep in the hole": Case(peg(0.001, 0.05), BODY + JOINT + CONTACT, IN_CONTACT, setpoints={0: 0.003, 3: 0.05}),
    "disc and ball on a moving plate": Case(
        mjcf("""<body><joint type="slide" axis="0 0 1" stiffness="800" damping="20"/>
          <joint axis="0 1 0" stiffness="20" damping=".5"/><geom type="box" size=".06 .05 .004" mass=".3" friction=".6"/></body>
        <body><freejoint/><geom type="cylinder" size=".04 .004" mass=".06" friction=".6"/></body>
        <body><freejoint/><geom type="sphere" size=".01" mass=".01"/></body>"""),
        BODY + JOINT + CONTACT, IN_CONTACT, q=(0, 0, 0, 0, 0.00802, *STILL, 0.01, 0, 0.02203, *STILL),
        qd=(0.1, 0.2, *[0.05] * 12), setpoints={0: 0.02, 1: 0.1}, periods=4, substeps=5,
    ),
    "peg in a hole without chamfer": Case(
        peg(0.001, 0.05, chamfer=0), BODY + CONTACT, IN_CONTACT, setpoints={1: 0.004, 4: -0.05}, periods=8, substeps=5,
    ),
    "capsule over a disc": Case(
        mjcf("""<geom type="plane" size="1 1 .1"/>
        <body><freejoint/><geom type="cylinder" size=".05 .01" mass=".2"/></body>
        <body><freejoint/><geom type="capsule" size=".01 .03" mass=".1"/></body>"""),
        BODY + CONTACT, IN_CONTACT, q=(0, 0, 0.01, *STILL, 0.01, 0, 0.0301, HALF, 0, HALF, 0),
        qd=(*[0.0] * 6, 0.1, 0.2, -0.1, 0, 0.5, 0), periods=8, substeps=5,
    ),
    "blade under a disc": Case(
        mjcf("""<geom type="plane" size="1 1 .1" friction=".5"/>
        <body pos="-.09 0 .003"><joint type="slide" axis="1 0 0" stiffness="800" damping="60"/>
          <joint type="slide" axis="0 0 1" stiffness="800" damping="60"/><joint axis="0 1 0" stiffness="20" damping="3"/>
          <geom type="box" size=".05 .03 .001" mass=".2" friction=".3"/></body>
        <body><freejoint/><geom type="cylinder" size=".04 .006" mass=".06" friction=".5"/></body>"""),
        BODY + JOINT + CONTACT, IN_CONTACT, q=(0, 0, 0, 0, 0, 0.006, *STILL), setpoints={0: 0.04, 1: -0.002, 2: 0.06},
    ),
    "blade under a pancake": Case(
        mjcf("""<body name="pan" pos="0 0 -.01"><geom name="pan" type="box" size=".09 .09 .02" friction=".4"/></body>
        <body pos="-.087 0 .0035" euler="0 .1 0"><joint type="slide" axis="1 0 0" stiffness="800" damping="60"/>
          <joint type="slide" axis="0 0 1" stiffness="800" damping="60"/><joint axis="0 1 0" stiffness="20" damping="3"/>
          <geom type="box" size=".03 .025 .0006" mass=".1" friction=".2"/></body>
        <body><freejoint/><geom name="cake" type="cylinder" size=".05 .004" mass=".06" friction=".4"/></body>""",
        more="""<custom><numeric name="samrl_hole/pan" data=".07 .01 .004"/><numeric name="samrl_rim/cake" data=".004"/>
          <numeric name="samrl_contact/cake" data="5000 5"/></custom>"""),
        BODY + JOINT + CONTACT, IN_CONTACT, q=(0, 0, 0, 0.012, 0, 0.004, *STILL), setpoints={0: 0.05, 1: -0.004, 2: -0.1},
    ),
    "meshes on a mesh": Case(
        mjcf("""<geom type="mesh" mesh="large" pos="0 0 -.03" euler=".1 0 .2" friction=".4"/>
        <body pos=".01 0 .026"><freejoint/><geom type="mesh" mesh="small" mass=".05" friction=".4"/></body>
        <body pos="-.04 -.01 .02"><freejoint/><geom type="sphere" size=".01" mass=".02" friction=".4"/></body>""", more=GEMS),
        BODY + CONTACT, IN_CONTACT, qd=(0.1, 0.05, 0, 0.5, -0.3, 1.0, 0.1, 0.2, 0, 1, 0, 0), periods=8, substeps=20,
    ),
    "thread, gripped and swung": Case(
        thread(30), BODY + JOINT, FREE_OF_CONTACT, setpoints={0: 0.05, 1: 0.02}, substeps=50,
    ),
    "thread through a ring": Case(
        thread(30, RING), BODY + JOINT + CONTACT, IN_CONTACT, setpoints={0: 0.006, 2: -0.03}, substeps=50,
    ),
}  # fmt: skip
