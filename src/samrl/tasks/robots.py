"""The two arms, as data. Numbers: the makers' published values as listed by MuJoCo Menagerie (Franka Emika Panda and
Flexiv Rizon 4, both Apache-2.0; see NOTICE). Drawn with simple solids. SI units, radians."""

from __future__ import annotations

import math

from samrl.tasks.spec import Arm, Body, Hinge, Solid

WHITE, GREY, DARK = (0.92, 0.92, 0.9), (0.55, 0.57, 0.6), (0.18, 0.18, 0.2)
_H = math.sqrt(0.5)
_X90, _X270, _Y270, _Z180, _Z315 = (
    (_H, _H, 0.0, 0.0),
    (_H, -_H, 0.0, 0.0),
    (_H, 0.0, -_H, 0.0),
    (0.0, 0.0, 0.0, 1.0),
    (math.cos(math.pi / 8), 0.0, 0.0, -math.sin(math.pi / 8)),
)
IDENTITY = (1.0, 0.0, 0.0, 0.0)

PANDA_HOME = (0.0, 0.0, 0.0, -1.57079, 0.0, 1.57079, -0.7853)
FINGER_OPENING = 0.008  # each finger's travel when it grips a peg 16 mm across [m]

# position, orientation, joint range, torque limit, mass, com, inertia (Ixx Iyy Izz Ixy Ixz Iyz), solids
_PANDA = (
    ((0, 0, 0.333), IDENTITY, (-2.8973, 2.8973), 87.0, 4.970684, (0.003875, 0.002081, -0.04762),
     (0.70337, 0.70661, 0.0091170, -0.000139, 0.006772, 0.019169),
     (Solid("capsule", (0.06, 0.1415), (0, 0, -0.1415), color=WHITE),)),
    ((0, 0, 0), _X270, (-1.7628, 1.7628), 87.0, 0.646926, (-0.003141, -0.02872, 0.003495),
     (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
     (Solid("capsule", (0.06, 0.06), color=WHITE),)),
    ((0, -0.316, 0), _X90, (-2.8973, 2.8973), 87.0, 3.228604, (0.027518, 0.039252, -0.066502),
     (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
     (Solid("capsule", (0.06, 0.075), (0, 0, -0.145), color=WHITE),)),
    ((0.0825, 0, 0), _X90, (-3.0718, -0.0698), 87.0, 3.587895, (-0.05317, 0.104419, 0.027454),
     (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
     (Solid("capsule", (0.06, 0.06), color=WHITE),)),
    ((-0.0825, 0.384, 0), _X270, (-2.8973, 2.8973), 12.0, 1.225946, (-0.011953, 0.041065, -0.038437),
     (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
     (Solid("capsule", (0.06, 0.05), (0, 0, -0.26), color=WHITE),
      Solid("capsule", (0.035, 0.09), (0, 0.07, -0.13), color=WHITE))),
    ((0, 0, 0), _X90, (-0.0175, 3.7525), 12.0, 1.666555, (0.060149, -0.014117, -0.010517),
     (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
     (Solid("capsule", (0.05, 0.05), (0, 0, -0.03), color=WHITE),)),
    ((0.088, 0, 0), _X90, (-2.8973, 2.8973), 12.0, 0.735522, (0.010517, -0.004252, 0.061597),
     (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
     (Solid("capsule", (0.045, 0.05), (0, 0, 0.02), color=WHITE),)),
)  # fmt: skip

_RIZON = (
    ((0, 0, 0.155), _Z180, (0, 0, 1), (-2.8798, 2.8798), 123.0, 3.596, (0.0001, 0.0035, 0.15),
     (0.0274, 0.02736, 0.00704), ((0, 0.015, 0.105), 0.1)),
    ((0, 0.03, 0.21), IDENTITY, (0, 1, 0), (-2.3562, 2.3562), 123.0, 2.69, (-0.0003, 0.0361, 0.0998),
     (0.0239, 0.023, 0.0036), ((0, 0.035, 0.1), 0.09)),
    ((0, 0.035, 0.205), IDENTITY, (0, 0, 1), (-3.0543, 3.0543), 64.0, 2.354, (-0.0123, -0.0012, 0.1366),
     (0.01455, 0.01369, 0.00376), ((-0.01, -0.015, 0.1), 0.09)),
    ((-0.02, -0.03, 0.19), _Z180, (0, 1, 0), (-1.9548, 2.7751), 64.0, 2.354, (-0.0129, 0.0313, 0.1034),
     (0.01861, 0.01805, 0.00274), ((-0.01, 0.03, 0.1), 0.09)),
    ((-0.02, 0.025, 0.195), _Z180, (0, 0, 1), (-3.0543, 3.0543), 39.0, 2.31, (0.0003, 0.0014, 0.1363),
     (0.0142, 0.01353, 0.00367), ((0, 0.015, 0.095), 0.08)),
    ((0, 0.03, 0.19), IDENTITY, (0, 1, 0), (-1.4835, 4.6251), 39.0, 2.223, (0.0202, 0.0596, 0.0724),
     (0.01002, 0.00828, 0.0034), ((0, 0.055, 0.055), 0.05)),
    ((-0.015, 0.073, 0.11), _Y270, (0, 0, 1), (-3.0543, 3.0543), 39.0, 0.768, (0.0003, 0.0, 0.0257),
     (0.001, 0.0009, 0.0009), ((0, 0, 0.035), 0.03)),
)  # fmt: skip


def panda(prefix: str = "panda_", opening: float = FINGER_OPENING) -> tuple[tuple[Body, ...], Arm]:
    """The Franka Panda, base at the world's origin, its hand closed on a 16 mm peg, or on what leaves each finger open by
    `opening` [m]. The tool E lies between the fingertip pads, z along the fingers."""
    bodies = [Body(f"{prefix}link0", solids=(Solid("capsule", (0.07, 0.04), (-0.05, 0, 0.06), _Y270, WHITE),))]
    for i, (p, quat, limits, torque, mass, com, inertia, solids) in enumerate(_PANDA):
        bodies.append(
            Body(
                f"{prefix}link{i + 1}",
                bodies[-1].name,
                p,
                quat,
                Hinge(range=limits, torque_limit=torque),
                mass,
                com,
                inertia,
                solids,
                gravcomp=1.0,
            )  # fmt: skip
        )
    hand = Body(
        f"{prefix}hand", f"{prefix}link7", (0, 0, 0.107), _Z315, None, 0.73, (-0.01, 0, 0.03),
        (0.001, 0.0025, 0.0017, 0, 0, 0),
        (Solid("box", (0.0200, 0.0990, 0.0300), (0, 0, 0.036), color=WHITE),
         Solid("box", (0.0310, 0.0950, 0.0080), (0, -0.005, -0.002), color=WHITE)), gravcomp=1.0,
    )  # fmt: skip
    finger = (
        Solid("box", (0.0104, 0.0118, 0.0090), (0, 0.0144, 0.0090), color=GREY),
        Solid("box", (0.0088, 0.0105, 0.0080), (0, 0.0110, 0.0250), color=GREY),
        Solid("box", (0.0088, 0.0076, 0.0105), (0, 0.0076, 0.0433), color=GREY),
    )
    fingers = [
        Body(
            f"{prefix}{side}finger", hand.name, (0, sign * opening, 0.0584), quat, None, 0.015, (0, 0, 0),
            (2.375e-6, 2.375e-6, 7.5e-7, 0, 0, 0), finger, gravcomp=1.0,
        )
        for side, sign, quat in (("left", 1.0, IDENTITY), ("right", -1.0, _Z180))
    ]  # fmt: skip
    names = tuple(f"{prefix}link{i}" for i in range(1, 8))
    return (*bodies, hand, *fingers), Arm("panda", names, hand.name, (0, 0, 0.1034), IDENTITY, PANDA_HOME)


def rizon(
    base_p: tuple[float, ...], base_quat: tuple[float, ...], camera_p: tuple[float, ...],
    camera_quat: tuple[float, ...], home: tuple[float, ...], prefix: str = "rizon_",
) -> tuple[tuple[Body, ...], Arm]:  # fmt: skip
    """The Flexiv Rizon 4 with a camera on its flange; the tool is the camera's optical frame C."""
    bodies = [
        Body(
            f"{prefix}base",
            "world",
            base_p,
            base_quat,
            solids=(Solid("cylinder", (0.07, 0.07), (0, 0, 0.07), color=GREY),),
        )
    ]
    for i, (p, quat, axis, limits, torque, mass, com, inertia, (mid, half)) in enumerate(_RIZON):
        bodies.append(
            Body(
                f"{prefix}link{i + 1}",
                bodies[-1].name,
                p,
                quat,
                Hinge(axis, limits, torque_limit=torque),
                mass,
                com,
                (*inertia, 0, 0, 0),
                (Solid("capsule", (0.045, half), mid, color=GREY),),
                gravcomp=1.0,
            )  # fmt: skip
        )
    flange = Body(f"{prefix}flange", f"{prefix}link7", (0, 0, 0.081), solids=())
    case = Body(
        f"{prefix}camera", flange.name, camera_p, camera_quat,
        solids=(Solid("box", (0.045, 0.0125, 0.0125), (0, 0, -0.015), color=DARK),),
    )  # fmt: skip
    names = tuple(f"{prefix}link{i}" for i in range(1, 8))
    return (*bodies, flange, case), Arm("rizon", names, case.name, (0, 0, 0), IDENTITY, home)
