"""Elements that scenes are made of beside single bodies."""

from __future__ import annotations

import math

import numpy as np

from samrl.tasks.spec import Ball, Body, Solid

ALONG_X = (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)  # turns a solid's z axis to its body's x


def chain(
    name: str, parent: str, p: tuple[float, ...], quat: tuple[float, ...], *, count: int, length: float, radius: float,
    density: float, joint: Ball, color: tuple[float, ...], friction: float = 0.3, contact: tuple[float, float] | None = None,
    unit: str = "",
) -> tuple[Body, ...]:  # fmt: skip
    """A thread: `count` capsules in a row along x, each on a ball joint at the end of the one before; bodies are called name0,
    name1, ... The first sits in a clamp, where only half a segment bends: its joint is twice as stiff. With it a thread of six
    segments sags under its weight within 3 % of a beam of E·I = stiffness · length.

    Args:
        parent, p [m], quat: where the first begins, and how it is turned.
        length: of a segment [m]; radius [m]; density [kg/m³].
        joint: between two segments.
        friction, contact, color: of the capsules, see `Solid`.
        unit: the name that the update knows it by; without one it stays as it is believed to be.
    """
    mass = density * math.pi * radius**2 * length
    across = mass * (3 * radius**2 + length**2) / 12
    solid = Solid("capsule", (radius, length / 2), (length / 2, 0, 0), ALONG_X, color, friction, True, contact)
    clamp = Ball(2 * joint.stiffness, 2 * joint.damping)
    return tuple(
        Body(
            f"{name}{i}", f"{name}{i - 1}" if i else parent, (length, 0.0, 0.0) if i else p, (1.0, 0.0, 0.0, 0.0) if i else quat,
            joint if i else clamp, mass, (length / 2, 0, 0), (mass * radius**2 / 2, across, across, 0, 0, 0), (solid,),
            updatable=bool(unit), unit=unit,
        )
        for i in range(count)
    )  # fmt: skip


def ring(
    half: tuple[float, float], wire: float, count: int, color: tuple[float, ...], friction: float = 0.3
) -> tuple[Solid, ...]:
    """An eye about x: capsules of radius `wire` [m] around an ellipse that leaves half[0] free along y and half[1] along z."""
    angle = 2 * np.pi * np.arange(count + 1) / count
    # sides of a polygon run inside its circle: widened by that, the ellipse itself stays free
    widen = 1 / math.cos(math.pi / count)
    y, z = (half[0] + wire) * widen * np.cos(angle), (half[1] + wire) * widen * np.sin(angle)
    out = []
    for i in range(count):
        dy, dz = y[i + 1] - y[i], z[i + 1] - z[i]
        middle = (0.0, (y[i] + y[i + 1]) / 2, (z[i] + z[i + 1]) / 2)
        turn = math.atan2(-dy, dz) / 2  # about x, from z to the side
        size = (wire, math.hypot(dy, dz) / 2)
        out.append(Solid("capsule", size, middle, (math.cos(turn), math.sin(turn), 0, 0), color, friction, True))
    return tuple(out)
