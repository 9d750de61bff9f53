"""Elements that scenes are made of beside single bodies."""

from __future__ import annotations

import math

import numpy as np

from samrl.tasks.spec import Ball, Body, Free, Solid

LAP = 0.1  # share of the way to the middle by which petals reach over the middle piece: between them is no crack to catch in
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


def round_sheet(
    name: str, p: tuple[float, ...], quat: tuple[float, ...], *, radius: float, half: float, rim: float, mass: float, joint: Ball,
    colors: tuple[tuple[float, ...], tuple[float, ...]], friction: float, soft: float | None = None, petals: int = 6,
) -> tuple[Body, ...]:  # fmt: skip
    """A round sheet that floats and bends: a middle piece, a regular polygon with half the radius, and a petal on each of its
    sides, on a ball joint there. The middle is called `name`, the petals name0, name1, ...

    Args:
        p, quat: of its middle in the world, z across the sheet; radius, half its thickness, rim: the rounding of its edge [m].
        mass: of all [kg], even; joint: between petal and middle; colors: of the sheet, and of its lower side; soft: as a
            solid's.
    """
    corner, step = radius / 2, 2 * math.pi / petals
    across = corner * math.cos(step / 2)  # to the middle of a side
    hexagon = [(corner * math.cos(step * (i + 0.5)), corner * math.sin(step * (i + 0.5))) for i in range(petals)]
    area = petals * corner**2 * math.sin(step) / 2
    share = (math.pi * radius**2 - area) / petals / (math.pi * radius**2)
    stuff = (half, rim, colors, friction, soft)
    middle = _prism(hexagon, [], *stuff)
    I = mass * area / (math.pi * radius**2) * corner**2 / 5
    bodies = [
        Body(
            name,
            "world",
            tuple(p),
            tuple(quat),
            Free(),
            (1 - petals * share) * mass,
            (0, 0, 0),
            (1.02 * I, 1.02 * I, 2 * I, 0, 0, 0),
            middle,
        )
    ]
    arc = [(radius * math.cos(t) - across, radius * math.sin(t)) for t in np.linspace(-step / 2, step / 2, 9)]
    low, wide = across * LAP, corner * math.sin(step / 2)
    side = [(x, s * wide * (1 + x / across)) for x in (0.0, -low) for s in (-1, 1)]
    com = 0.55 * (radius - across)
    small, large = (share * mass * x**2 / 12 for x in (radius - across, 1.5 * corner))
    for i in range(petals):
        a = step * i
        bodies.append(
            Body(
                f"{name}{i}", name, (across * math.cos(a), across * math.sin(a), 0.0),
                (math.cos(a / 2), 0.0, 0.0, math.sin(a / 2)), joint, share * mass, (com, 0, 0),
                (large, small, 0.98 * (small + large), 0, 0, 0), _prism(side, arc, *stuff),
            )
        )  # fmt: skip
    return tuple(bodies)


def _prism(
    inner: list[tuple[float, float]], outer: list[tuple[float, float]], half: float, rim: float,
    colors: tuple[tuple[float, ...], tuple[float, ...]], friction: float, soft: float | None,
) -> tuple[Solid, ...]:  # fmt: skip
    """A piece of a sheet with that outline, round where it is the sheet's edge (`outer`), and the skin of its lower side."""
    points = [(x, y, s * half) for x, y in inner for s in (-1, 1)]
    centre = np.mean(outer, 0) if outer else np.zeros(2)
    for x, y in outer:
        inwards = _towards(centre, x, y)
        for t in np.linspace(0, math.pi / 2, 4):
            back = rim * (1 - math.sin(t))
            z = half - rim + rim * math.cos(t)
            points += [(x + back * inwards[0], y + back * inwards[1], s * z) for s in (-1, 1)]
    flat = [*inner, *(tuple((x, y) + rim * _towards(centre, x, y)) for x, y in outer)]
    skin = tuple((float(x), float(y), z) for x, y in flat for z in (-half - 0.0002, -half + 0.0008))
    whole = tuple((float(x), float(y), float(z)) for x, y, z in points)
    return (
        Solid("hull", (), color=colors[0], friction=friction, collide=True, points=whole, soft=soft),
        Solid("hull", (), color=colors[1], friction=friction, points=skin),
    )


def _towards(centre: np.ndarray, x: float, y: float) -> np.ndarray:
    """Unit vector (2) from (x, y) to a point."""
    way = centre - (x, y)
    return way / max(float(np.hypot(*way)), 1e-9)
