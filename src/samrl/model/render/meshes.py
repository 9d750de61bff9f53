"""Triangle meshes of simple solids.

Every vertex is a linear map of the solid's sizes, vertex = T @ size, so that shapes can be differentiated, and every
normal is a constant. Vertices are welded (each edge knows its two faces); what is lit are corners: flat faces share one
corner, round ones have a corner a vertex. Faces turn counter-clockwise seen from outside. Frame: the geom's, metres.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from samrl.core.errors import SceneError
from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, DISC, MESH, PLANE, SPHERE, Scene

SIZES = 6  # numbers in geom_size


@dataclass(frozen=True)
class Template:
    """One solid: V vertices, F faces, C corners.

    Attributes:
        T: (V, 3, 6) vertex v of a solid of sizes s lies at T[v] @ s [m].
        faces: (F, 3) vertices of each face.
        corners: (F, 3) corners of each face.
        normals: (C, 3) outward unit normal at each corner.
    """

    T: np.ndarray
    faces: np.ndarray
    corners: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """The meshes of many parts in one: P parts (geoms), V vertices, F faces, C corners, E edges.

    Attributes:
        faces, corners: (F, 3); face_part: (F).
        edges: (E, 8) vertices a, b; faces 1, 2 (-1 where the surface ends); corners of a and b in face 1, in face 2.
        face_convex: (F) the part that the face belongs to if that is convex, else -1.
        vertex_start, corner_start: (P + 1) first vertex and corner of each part.
    """

    faces: np.ndarray
    corners: np.ndarray
    face_part: np.ndarray
    face_convex: np.ndarray
    edges: np.ndarray
    vertex_start: np.ndarray
    corner_start: np.ndarray


def scene_mesh(scene: Scene, detail: float | np.ndarray = 1.0) -> tuple[Mesh, np.ndarray, np.ndarray]:
    """Mesh of a scene's geoms (a part each; invisible geoms are empty parts), with T (V, 3, 6) and normals (C, 3). `detail`: see
    `template`; for all geoms, or (ng) for each."""
    empty = Template(*(np.zeros(shape) for shape in ((0, 3, SIZES), (0, 3), (0, 3), (0, 3))))
    fine, templates = np.broadcast_to(detail, scene.geom_type.shape), []
    convex = scene.geom_type != BLOCK_WITH_HOLE
    for g, kind in enumerate(scene.geom_type):
        if not scene.geom_visible[g]:
            templates.append(empty)
        elif kind == MESH:
            vertices, _, faces = scene.mesh(g)
            templates.append(_triangles(vertices, faces))
            convex[g] = _is_convex(vertices, faces)
        else:
            templates.append(template(int(kind), float(fine[g])))
    mesh = join([(t.faces, t.corners, len(t.T), len(t.normals)) for t in templates], convex)
    T = np.concatenate([t.T for t in templates]).astype(np.float32)
    normals = np.concatenate([t.normals for t in templates]).astype(np.float32)
    return mesh, T, normals


def surface_mesh(faces: np.ndarray, corners: np.ndarray | None = None) -> Mesh:
    """Mesh of one free surface from its faces (F, 3), counter-clockwise seen from outside; each vertex is its own corner
    where no `corners` (F, 3) are given."""
    faces = np.asarray(faces)
    corners = faces if corners is None else np.asarray(corners)
    return join([(faces, corners, int(faces.max()) + 1, int(corners.max()) + 1)], np.array([False]))


def join(parts: list[tuple[np.ndarray, np.ndarray, int, int]], convex: np.ndarray) -> Mesh:
    """Parts (faces, corners, number of vertices, number of corners), convex (P) bool -> one mesh."""
    vertex_start = np.cumsum([0] + [p[2] for p in parts])
    corner_start = np.cumsum([0] + [p[3] for p in parts])
    faces = np.concatenate([p[0] + v for p, v in zip(parts, vertex_start, strict=False)]).astype(np.int32)
    corners = np.concatenate([p[1] + c for p, c in zip(parts, corner_start, strict=False)]).astype(np.int32)
    face_part = np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts]).astype(np.int32)
    face_convex = np.where(convex[face_part], face_part, -1).astype(np.int32)
    edges = find_edges(faces, corners)
    starts = (vertex_start.astype(np.int32), corner_start.astype(np.int32))
    return Mesh(faces, corners, face_part, face_convex, edges, *starts)


def find_edges(faces: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(E, 8) rows as in `Mesh.edges`, face 1 before face 2."""
    n, start, stop = len(faces), np.ravel(faces), np.roll(faces, -1, axis=1).ravel()
    c_start, c_stop = np.ravel(corners), np.roll(corners, -1, axis=1).ravel()
    face = np.repeat(np.arange(n), 3)
    ends = np.stack([np.minimum(start, stop), np.maximum(start, stop)], 1).astype(np.int64)
    key = ends[:, 0] * (int(ends.max(initial=0)) + 1) + ends[:, 1]
    _, first, edge, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    other = np.zeros(len(first), np.int64)
    other[edge] = np.arange(3 * n)  # the last one stays: where an edge has two faces, the second
    two = count == 2
    bad = (count > 2) | (two & (start[other] != stop[first]))
    if bad.any():
        a, b = start[first[bad]][0], stop[first[bad]][0]
        raise SceneError(f"edge ({a}, {b}) has more than two faces, or two that turn opposite ways.")
    at = lambda values: np.where(two, values[other], -1)  # noqa: E731
    rows = [start[first], stop[first], face[first], at(face), c_start[first], c_stop[first], at(c_stop), at(c_start)]
    return np.stack(rows, 1)[np.argsort(first)].astype(np.int32).reshape(-1, 8)


def template(kind: int, detail: float = 1.0) -> Template:
    """Mesh of a solid by its geom type; `detail` multiplies the number of segments around."""
    around = lambda n: max(4, 4 * round(n * detail / 4))  # noqa: E731
    if kind == BOX:
        return _box()
    if kind == PLANE:
        return _plane()
    if kind == SPHERE:
        return _ball(around(16), 0)
    if kind == CAPSULE:
        return _ball(around(12), 1)
    if kind == CYLINDER:
        return _cylinder(around(24))
    if kind == DISC:
        return _disc(around(24))
    if kind == BLOCK_WITH_HOLE:
        return _block_with_hole(around(24))
    raise SceneError(f"geom type {kind} cannot be drawn; drawn are plane, sphere, capsule, cylinder, disc, box, block with hole.")


def _triangles(vertices: np.ndarray, faces: np.ndarray) -> Template:
    """A mesh of vertices (V, 3) at size one; each face (F, 3) is flat. A mesh that is stretched keeps its normals."""
    T = np.zeros((len(vertices), 3, SIZES))
    T[:, range(3), range(3)] = vertices
    normals, corners = np.unique(np.round(_normals(vertices, faces), 6), axis=0, return_inverse=True)
    return Template(T, faces, np.repeat(corners.reshape(-1, 1), 3, 1), normals)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) outward unit normals; +z for faces without area."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return np.where(length > 1e-12, cross / np.maximum(length, 1e-12), [0.0, 0.0, 1.0])


def _is_convex(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether no vertex lies in front of a face."""
    normals = _normals(vertices, faces)
    offset = np.einsum("fi,fi->f", normals, vertices[faces[:, 0]])
    return all(bool((vertices @ n <= o + 1e-6).all()) for n, o in zip(normals, offset, strict=True))


class _Builder:
    """Collects vertices, corners and faces."""

    def __init__(self) -> None:
        self.T: list[np.ndarray] = []
        self.normals: list[np.ndarray] = []
        self.faces: list[tuple[int, ...]] = []
        self.corners: list[tuple[int, ...]] = []

    def vertex(self, *terms: tuple[int, int, float]) -> int:
        """Adds the vertex with coordinate[axis] = sum of factor * size[k] over `terms` (axis, k, factor)."""
        T = np.zeros((3, SIZES))
        for axis, k, factor in terms:
            T[axis, k] += factor
        self.T.append(T)
        return len(self.T) - 1

    def corner(self, *normal: float) -> int:
        self.normals.append(np.array(normal, float) / np.linalg.norm(normal))
        return len(self.normals) - 1

    def face(self, vertices: tuple[int, ...], corners: tuple[int, ...] | int) -> None:
        """Adds a triangle, or a convex quadrilateral as two; one corner for a flat face."""
        c = (corners,) * len(vertices) if isinstance(corners, int) else corners
        for k in range(1, len(vertices) - 1):
            self.faces.append((vertices[0], vertices[k], vertices[k + 1]))
            self.corners.append((c[0], c[k], c[k + 1]))

    def build(self) -> Template:
        return Template(np.array(self.T), np.array(self.faces), np.array(self.corners), np.array(self.normals))


def _box() -> Template:
    b = _Builder()
    signs = itertools.product((-1, 1), repeat=3)
    v = {s: b.vertex(*((i, i, s[i]) for i in range(3))) for s in signs}
    for axis in range(3):
        for sign in (-1, 1):
            normal = np.eye(3)[axis] * sign
            ring = []
            for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                s = [0, 0, 0]
                s[axis], s[(axis + 1) % 3], s[(axis + 2) % 3] = sign, i, j
                ring.append(v[tuple(s)])
            b.face(tuple(ring if sign > 0 else ring[::-1]), b.corner(*normal))
    return b.build()


def _plane() -> Template:
    """A rectangle of half-lengths size[0], size[1], normal +z, seen from above only."""
    b = _Builder()
    ring = [b.vertex((0, 0, i), (1, 1, j)) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    b.face(tuple(ring), b.corner(0, 0, 1))
    return b.build()


def _angles(n: int) -> list[tuple[float, float]]:
    """Cosine and sine of n angles all around."""
    return [(math.cos(2 * math.pi * i / n), math.sin(2 * math.pi * i / n)) for i in range(n)]


def _fair(n: int) -> float:
    """Factor on the radius that gives a polygon of n corners the area of its circle: the silhouette of a coarse mesh
    is then neither too small nor too large on average."""
    return math.sqrt((2 * math.pi / n) / math.sin(2 * math.pi / n))


def _ball(n: int, half: int) -> Template:
    """Sphere of radius size[0] (half 0), or capsule of half length size[1] along z (half 1)."""
    b, fair = _Builder(), _fair(n)
    quarter = 1 if half and n <= 8 else max(2, n // 4)  # what is drawn so coarsely is a pixel wide: a cone will do for its end
    latitudes = [(0.5 * math.pi * i / quarter, 1) for i in range(quarter + 1)]
    latitudes += [(0.5 * math.pi * i / quarter, -1) for i in range(quarter if half else quarter - 1, -1, -1)]
    rings, lights = [], []
    for phi, side in latitudes:
        z = fair * math.cos(phi) * side
        rim = _angles(n) if phi > 0 else [(0.0, 0.0)]
        around = [(c * math.sin(phi), s * math.sin(phi)) for c, s in rim]
        rings.append([b.vertex((0, 0, fair * x), (1, 0, fair * y), (2, 0, z), *[(2, 1, side)] * half) for x, y in around])
        lights.append([b.corner(x, y, math.cos(phi) * side) for x, y in around])
    for top, bottom, light_top, light_bottom in zip(rings, rings[1:], lights, lights[1:], strict=False):
        _band(b, top, bottom, light_top, light_bottom)
    return b.build()


def _band(b: _Builder, top: list[int], bottom: list[int], light_top: list[int], light_bottom: list[int]) -> None:
    """Faces between two rings of vertices (or a pole and a ring), the outside being where the upper ring turns
    counter-clockwise about +z."""
    n = max(len(top), len(bottom))
    for i in range(n):
        j = (i + 1) % n
        if len(top) == 1:
            b.face((top[0], bottom[i], bottom[j]), (light_top[0], light_bottom[i], light_bottom[j]))
        elif len(bottom) == 1:
            b.face((top[i], bottom[0], top[j]), (light_top[i], light_bottom[0], light_top[j]))
        else:
            corners = (light_top[i], light_bottom[i], light_bottom[j], light_top[j])
            b.face((top[i], bottom[i], bottom[j], top[j]), corners)


def _cylinder(n: int) -> Template:
    """Radius size[0], half length size[1] along z."""
    b, fair = _Builder(), _fair(n)
    ring = lambda side: [b.vertex((0, 0, fair * c), (1, 0, fair * s), (2, 1, side)) for c, s in _angles(n)]  # noqa: E731
    top, bottom = ring(1), ring(-1)
    up, down = b.corner(0, 0, 1), b.corner(0, 0, -1)
    light = [b.corner(c, s, 0) for c, s in _angles(n)]
    _band(b, [b.vertex((2, 1, 1))], top, [up], [up] * n)
    _band(b, top, bottom, light, light)
    _band(b, bottom, [b.vertex((2, 1, -1))], [down] * n, [down])
    return b.build()


def _disc(n: int, steps: int = 3) -> Template:
    """Radius size[0], half length size[1] along z, rims rounded with radius size[2] in `steps` bands to each quarter."""
    b, fair = _Builder(), _fair(n)

    def ring(phi: float, side: int) -> list[int]:
        """The circle on the rounding at angle phi from the axis, above or below."""
        out, up = math.sin(phi) - 1, math.cos(phi) - 1
        height = ((2, 1, side), (2, 2, side * up))
        flat = lambda axis, u: ((axis, 0, fair * u), (axis, 2, fair * out * u))  # noqa: E731
        return [b.vertex(*flat(0, c), *flat(1, s), *height) for c, s in _angles(n)]

    def light(phi: float, side: int) -> list[int]:
        return [b.corner(math.sin(phi) * c, math.sin(phi) * s, side * math.cos(phi)) for c, s in _angles(n)]

    quarter = [0.5 * math.pi * i / steps for i in range(steps + 1)]
    bands = [(phi, 1) for phi in quarter] + [(phi, -1) for phi in quarter[::-1]]
    rings, lights = [ring(*at) for at in bands], [light(*at) for at in bands]
    up, down = b.corner(0, 0, 1), b.corner(0, 0, -1)
    _band(b, [b.vertex((2, 1, 1))], rings[0], [up], [up] * n)
    for k in range(len(rings) - 1):
        _band(b, rings[k], rings[k + 1], lights[k], lights[k + 1])
    _band(b, rings[-1], [b.vertex((2, 1, -1))], [down] * n, [down])
    return b.build()


def _block_with_hole(n: int) -> Template:
    """Half-lengths size[0:3]; a blind hole along z from the top: radius size[3], depth size[4], its rim widened by a 45°
    chamfer of size[5]. Without a chamfer its faces have no area, and its rim's edge is drawn once."""
    b, fair = _Builder(), _fair(n)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    top = [b.vertex((0, 0, i), (1, 1, j), (2, 2, 1)) for i, j in signs]
    bottom = [b.vertex((0, 0, i), (1, 1, j), (2, 2, -1)) for i, j in signs]

    def ring(*height: tuple[int, int, float], chamfer: float = 0.0) -> list[int]:
        terms = lambda axis, u: ((axis, 3, fair * u), (axis, 5, fair * chamfer * u))  # noqa: E731
        return [b.vertex(*terms(0, c), *terms(1, s), *height) for c, s in _angles(n)]

    rim = ring((2, 2, 1), chamfer=1.0)
    throat, foot = ring((2, 2, 1), (2, 5, -1)), ring((2, 2, 1), (2, 4, -1))
    up, down = b.corner(0, 0, 1), b.corner(0, 0, -1)
    for k in range(4):
        k1, quarter = (k + 1) % 4, n // 4
        for i in range(k * quarter, (k + 1) * quarter):
            b.face((rim[i], top[k], rim[(i + 1) % n]), up)
        b.face((rim[(k + 1) * quarter % n], top[k], top[k1]), up)
    # lower ring first: the outside is towards the axis
    _band(b, throat, rim, *[[b.corner(-c, -s, 1) for c, s in _angles(n)]] * 2)
    _band(b, foot, throat, *[[b.corner(-c, -s, 0) for c, s in _angles(n)]] * 2)
    _band(b, [b.vertex((2, 2, 1), (2, 4, -1))], foot, [up], [up] * n)
    for k, normal in enumerate(((0, 1, 0), (-1, 0, 0), (0, -1, 0), (1, 0, 0))):
        k1 = (k + 1) % 4
        b.face((top[k], bottom[k], bottom[k1], top[k1]), b.corner(*normal))
    b.face(tuple(bottom[::-1]), down)
    return b.build()
