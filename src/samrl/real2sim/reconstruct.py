"""A first model of a scene from a scan: surface, support, objects, convex pieces.

World frame W of what comes out: z up along the support's normal, origin on the support in the middle of its outline, x along the
scan's x as far as that is horizontal.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samrl.core.errors import ScanError
from samrl.real2sim import heldout, support, tsdf
from samrl.real2sim.pieces import Piece, decompose, hull
from samrl.real2sim.refine import refine
from samrl.real2sim.scan import MILLIMETRES, Scan, read_scan
from samrl.real2sim.tsdf import Surface

_SLAB = 0.03  # thickness of what is flat and seen from one side only [m]
_STANDS = 2.0  # voxels above the clearance up to which an object's lowest point may be seen, or, where it stands on a foot ...
_FOOT = (0.25, 0.05)  # ... that nobody sees, this share of its height, but not more than so many metres
_WITHIN = 0.95  # share of an object that lies over the support
_ROOM = 0.03  # share of all that was seen that a plane of the room must hold
_PIECE_FACES = 24  # faces of a surface below which it is no object but crumbs


@dataclass(frozen=True)
class ReconstructSettings:
    """voxel [m]: from the scene's size where not given; max_depth: readings beyond are not taken [m]; depth_scale: depth units to
    a metre; up: (3) direction in the scan's frame, guessed from the cameras where not given; density [kg/m³] that masses are
    guessed from; min_size, max_size: extents of an object [m], what is larger is static; pieces: most convex pieces an object;
    free: objects float, else they are fixed where they were seen; hold_out: every n-th frame is kept for measurement, 0 for none;
    refine: steps by which the surface is made to look as its views, 0 for none.
    """

    voxel: float | None = None
    max_depth: float = 4.0
    depth_scale: float = MILLIMETRES
    up: tuple[float, float, float] | None = None
    density: float = 500.0
    min_size: float = 0.02
    max_size: float = 0.5
    pieces: int = 8
    free: bool = True
    hold_out: int = 0
    seed: int = 0
    refine: int = 0


@dataclass(frozen=True)
class ScannedBody:
    """A body of convex pieces in its own frame B: axes of W, origin p_WB (3) on the support below its middle [m]; mass [kg] of
    what lies between its seen surface and the support; free: it floats, else it is fixed."""

    name: str
    pieces: tuple[Piece, ...]
    p_WB: np.ndarray
    mass: float
    free: bool


@dataclass(frozen=True)
class Reconstruction:
    """surface: in W; X_WS: (4, 4) scan in W; bodies: the objects; fixed: pieces in W by name, "support" the first;
    error: of held-out views, None without such; fused: that of before the refinement, None without one."""

    surface: Surface
    X_WS: np.ndarray
    bodies: tuple[ScannedBody, ...]
    fixed: dict[str, Piece]
    voxel: float
    density: float
    error: heldout.DepthError | None = None
    fused: heldout.DepthError | None = None


def reconstruct(
    folder: Path, settings: ReconstructSettings | None = None, say: Callable[[str], None] | None = None
) -> Reconstruction:
    """The scene in a scan's folder; `say` is told how a refinement gets on.

    Raises: ScanError where the scan cannot be read, or nothing can be made of it."""
    s = settings or ReconstructSettings()
    _check_libraries()
    kept, held = read_scan(folder, s.depth_scale).split(s.hold_out)
    if s.hold_out and not held.frames:
        raise ScanError(f"--hold-out {s.hold_out} holds out none of {len(kept.frames)} frames; a smaller number would do.")
    if not kept.frames:
        raise ScanError(f"--hold-out {s.hold_out} leaves no frames to fuse; 2 or more, or 0 for none, would do.")
    voxel = s.voxel or tsdf.default_voxel(kept, s.max_depth)
    surface_S = tsdf.fuse(kept, voxel, s.max_depth)
    measure = lambda: heldout.depth_error(surface_S, held, s.max_depth) if s.hold_out else None  # noqa: E731
    error, fused = measure(), None
    if s.refine:
        surface_S = refine(surface_S, kept, voxel, s.max_depth, s.refine, say)
        error, fused = measure(), error
    return replace(separate(surface_S, kept, voxel, s, error), fused=fused)


def describe(scene: Reconstruction) -> list[str]:
    """Lines about what was found, and how good it is."""
    lines = [f"surface: {len(scene.surface.faces)} faces, voxels of {1000 * scene.voxel:.3g} mm"]
    for e, when in ((scene.fused, " before the refinement"), (scene.error, "")):
        if e is None:
            continue
        lines.append(
            f"depth of {e.frames} held-out frames{when}: median |error| {1000 * e.median:.2f} mm, 90 % below "
            f"{1000 * e.tenth:.1f} mm, where the surface has a depth ({100 * e.covered:.1f} % of readings)"
        )
    low, high = scene.fixed["support"].vertices.min(0), scene.fixed["support"].vertices.max(0)
    lines.append(f"support: {high[0] - low[0]:.2f} x {high[1] - low[1]:.2f} m; flat parts of the room: {len(scene.fixed) - 1}")
    for body in scene.bodies:
        size = np.ptp(np.concatenate([p.vertices for p in body.pieces]), axis=0)
        lines.append(
            f"{body.name}: {1000 * size[0]:.0f} x {1000 * size[1]:.0f} x {1000 * size[2]:.0f} mm at ({body.p_WB[0]:.3f}, "
            f"{body.p_WB[1]:.3f}), {len(body.pieces)} pieces, {body.mass:.3f} kg at {scene.density:g} kg/m3, "
            f"{'free' if body.free else 'fixed'}"
        )
    return lines


def separate(
    surface_S: Surface, scan: Scan, voxel: float, s: ReconstructSettings, error: heldout.DepthError | None = None
) -> Reconstruction:
    """Support, objects and room of a surface in the scan's frame."""
    rng = np.random.default_rng(s.seed)
    faces = support.measure(surface_S)
    width = 1.5 * voxel
    poses = np.stack([f.X_SC for f in scan.frames])
    plane_S = support.support_plane(faces, poses, width, rng, None if s.up is None else np.array(s.up))
    main = _largest(surface_S, faces, plane_S.inliers)
    X_WS = support.world_frame(plane_S, faces.middle[main].mean(0))
    ring = support.outline((surface_S.vertices[np.unique(surface_S.faces[main])] @ X_WS[:3, :3].T + X_WS[:3, 3])[:, :2])
    shift = np.append((ring.max(0) + ring.min(0)) / 2, 0.0)
    X_WS[:3, 3] -= shift
    ring = ring - shift[:2]
    surface = Surface(surface_S.vertices @ X_WS[:3, :3].T + X_WS[:3, 3], surface_S.faces, surface_S.colors, surface_S.weight)

    clear = _clearance(surface, main, width)
    objects, taken = _objects(surface, ring, clear, voxel, s)
    bodies = tuple(_body(f"object_{i + 1}", part, s) for i, part in enumerate(objects))
    flat = support.Plane(np.array([0.0, 0.0, 1.0]), 0.0, main, 0.0)
    slabs = {"support": _slab(surface, flat, ring, np.eye(3)[:2])}
    height = faces.middle @ X_WS[2, :3] + X_WS[2, 3]
    over = support.inside((faces.middle @ X_WS[:2, :3].T + X_WS[:2, 3]), ring, 2 * voxel)
    rest = ~taken & ~(over & (np.abs(height) < clear))
    slabs |= _room(surface, rest, width, rng)
    return Reconstruction(surface, X_WS, bodies, slabs, voxel, s.density, error)


def _check_libraries() -> None:
    """Refuse to start what would end for want of a library."""
    missing = [n for n in ("skimage", "trimesh", "coacd") if importlib.util.find_spec(n) is None]
    if missing:
        raise ScanError(f"reconstruction needs {', '.join(missing)}, not installed; pip install 'samrl[scan]' would do.")


def _largest(surface: Surface, faces: support.Faces, among: np.ndarray) -> np.ndarray:
    """(F) bool: of the faces `among`, those of the connected part of which most was seen."""
    index = np.flatnonzero(among)
    label = support.connected(surface.faces[index], len(surface.vertices))
    largest = np.argmax(np.bincount(label, faces.seen[index]))
    out = np.zeros(len(among), bool)
    out[index[label == largest]] = True
    return out


def _clearance(surface: Surface, main: np.ndarray, width: float) -> float:
    """Height above the support from where on something stands on it: beyond the plane's own unevenness [m]."""
    z = surface.vertices[surface.faces[main]][:, :, 2]
    return max(width, 3.0 * float(np.sqrt(np.mean(z**2))))


def _objects(
    surface: Surface, ring: np.ndarray, clear: float, voxel: float, s: ReconstructSettings
) -> tuple[list[Surface], np.ndarray]:
    """Connected parts that stand on the support, the largest first, and the faces (F) that they take."""
    above = np.flatnonzero((surface.vertices[surface.faces][:, :, 2] > clear).all(1))
    label = support.connected(surface.faces[above], len(surface.vertices))
    taken, found = np.zeros(len(surface.faces), bool), []
    for k in np.flatnonzero(np.bincount(label) >= _PIECE_FACES):
        mine = above[label == k]
        points = surface.vertices[np.unique(surface.faces[mine])]
        extent = np.ptp(points, axis=0)
        foot = max(_STANDS * voxel, min(_FOOT[0] * extent[2], _FOOT[1]))
        stands = points[:, 2].min() < clear + foot and support.inside(points[:, :2], ring).mean() > _WITHIN
        if stands and extent.max() >= s.min_size and min(extent[:2]) > 2 * voxel:
            taken[mine] = True
            found.append(surface.part(mine))
    found.sort(key=lambda part: -len(part.faces))
    return found, taken


def _body(name: str, part: Surface, s: ReconstructSettings) -> ScannedBody:
    """An object as a body of convex pieces."""
    low, high = part.vertices.min(0), part.vertices.max(0)
    p_WB = np.array([*(low + high)[:2] / 2, 0.0])
    own = Surface(part.vertices - p_WB, part.faces, part.colors, part.weight)
    pieces, volume = decompose(own, s.pieces, s.seed)
    if volume <= 0:  # mostly faces that look down: what is above them was not seen
        volume = sum(p.volume for p in pieces)
    return ScannedBody(name, tuple(pieces), p_WB, s.density * volume, s.free and float((high - low).max()) <= s.max_size)


def _room(surface: Surface, rest: np.ndarray, width: float, rng: np.random.Generator) -> dict[str, Piece]:
    """What is flat among the rest, as slabs."""
    faces, slabs = support.measure(surface), {}
    for i, plane in enumerate(support.find_planes(faces, rest, width, rng, count=12, least=_ROOM)):
        main = _largest(surface, faces, plane.inliers)
        axes = support.world_frame(plane, np.zeros(3))[:2, :3]
        points = surface.vertices[np.unique(surface.faces[main])] @ axes.T
        slabs[f"room_{i + 1}"] = _slab(
            surface, support.Plane(plane.normal, plane.offset, main, 0.0), support.outline(points), axes
        )
    return slabs


def _slab(surface: Surface, plane: support.Plane, ring: np.ndarray, axes: np.ndarray) -> Piece:
    """The convex outline (k, 2), along axes (2, 3), of what was seen of a plane, with a thickness."""
    color = np.median(surface.colors[np.unique(surface.faces[plane.inliers])], axis=0)
    return hull(support.prism(plane, ring, axes, _SLAB), color)
