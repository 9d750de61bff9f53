"""A reconstruction as files: MJCF, URDF (PyBullet keeps one body a file), convex pieces as OBJ, the coloured surface as PLY."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from samrl.real2sim.pieces import Piece
from samrl.real2sim.reconstruct import Reconstruction, ScannedBody


def write(scene: Reconstruction, path: Path) -> list[Path]:
    """Write `path` (MJCF), and beside it a folder of the same name without suffix: OBJ and URDF of each body, surface.ply.

    Returns: what was written, the MJCF first, then the URDFs.
    """
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    mjcf = _mjcf(scene, folder)
    ET.indent(mjcf)
    path.write_text(f"{_comment(scene)}\n{ET.tostring(mjcf, encoding='unicode')}\n")
    urdfs = [_write_urdf(folder, "static", scene.fixed, np.zeros(3), 0.0)]
    for body in scene.bodies:
        urdfs.append(_write_urdf(folder, body.name, _named(body), body.p_WB, body.mass if body.free else 0.0))
    _write_ply(folder / "surface.ply", scene)
    return [path, *urdfs]


def _comment(scene: Reconstruction) -> str:
    """What a reader of the MJCF should know."""
    return (
        f"<!-- A first model from a scan, with voxels of {1000 * scene.voxel:.3g} mm. z is up, the origin lies on the support. "
        f"Masses are guessed: {scene.density:g} kg/m3 times the volume between the seen surface and the support. samrl_scan is "
        "X_WS, the scan's frame in the world, row by row. -->"
    )


def _named(body: ScannedBody) -> dict[str, Piece]:
    return {f"{body.name}_{i}": piece for i, piece in enumerate(body.pieces)}


def _row(values: np.ndarray) -> str:
    return " ".join(f"{x:.6g}" for x in np.ravel(values))


def _mjcf(scene: Reconstruction, folder: Path) -> ET.Element:
    """The scene as MJCF; its meshes are written into `folder`."""
    root = ET.Element("mujoco", model=folder.name)
    ET.SubElement(root, "compiler", angle="radian", meshdir=folder.name)
    ET.SubElement(root, "option", timestep="0.002")
    custom = ET.SubElement(root, "custom")
    ET.SubElement(custom, "numeric", name="samrl_scan", data=_row(scene.X_WS[:3]))
    asset, world = ET.SubElement(root, "asset"), ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", pos="0 0 3", dir="-0.3 0.2 -1", diffuse="0.5 0.5 0.5", ambient="0.4 0.4 0.4")

    def geoms(parent: ET.Element, pieces: dict[str, Piece], mass: float) -> None:
        total = sum(p.volume for p in pieces.values())
        for name, piece in pieces.items():
            _write_obj(folder / f"{name}.obj", piece)
            ET.SubElement(asset, "mesh", name=name, file=f"{name}.obj")
            geom = ET.SubElement(parent, "geom", name=name, type="mesh", mesh=name, rgba=f"{_row(piece.color)} 1")
            if mass:
                geom.set("mass", f"{mass * piece.volume / total:.6g}")

    geoms(world, scene.fixed, 0.0)
    for body in scene.bodies:
        element = ET.SubElement(world, "body", name=body.name, pos=_row(body.p_WB))
        if body.free:
            ET.SubElement(element, "freejoint", name=body.name)
        geoms(element, _named(body), body.mass)
    return root


def _write_obj(path: Path, piece: Piece) -> None:
    """A piece, its colour at each vertex: not all readers take that, so colours are in MJCF and URDF too."""
    lines = [f"v {_row(v)} {_row(piece.color)}" for v in piece.vertices]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in piece.faces]
    path.write_text("\n".join(lines) + "\n")


def _write_urdf(folder: Path, name: str, pieces: dict[str, Piece], p_WB: np.ndarray, mass: float) -> Path:
    """One body as URDF; it stands at p_WB in the world, which is for the reader to say to its engine (a comment has it)."""
    root = ET.Element("robot", name=name)
    link = ET.SubElement(root, "link", name=name)
    com, inertia = _inertia(pieces, mass)  # a mass of zero is PyBullet's word for what cannot move
    element = ET.SubElement(link, "inertial")
    ET.SubElement(element, "origin", xyz=_row(com))
    ET.SubElement(element, "mass", value=f"{mass:.6g}")
    keys = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
    ET.SubElement(element, "inertia", {k: f"{inertia[at]:.6g}" for k, at in keys.items()})
    for piece_name, piece in pieces.items():
        for kind in ("visual", "collision"):
            element = ET.SubElement(link, kind, name=piece_name)
            ET.SubElement(ET.SubElement(element, "geometry"), "mesh", filename=f"{piece_name}.obj")
            if kind == "visual":
                material = ET.SubElement(element, "material", name=piece_name)
                ET.SubElement(material, "color", rgba=f"{_row(piece.color)} 1")
    ET.indent(root)
    path = folder / f"{name}.urdf"
    where = f"<!-- stands at {_row(p_WB)} in the world{'' if mass else ', fixed'} -->"
    path.write_text(f"{where}\n{ET.tostring(root, encoding='unicode')}\n")
    return path


def _inertia(pieces: dict[str, Piece], mass: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (3) [m] and inertia (3, 3) about it [kg m²] of pieces of one density, by tetrahedra with the origin."""
    volume, first, second = 0.0, np.zeros(3), np.zeros((3, 3))
    for piece in pieces.values():
        T = piece.vertices[piece.faces]
        six = np.einsum("ni,ni->n", T[:, 0], np.cross(T[:, 1], T[:, 2]))
        total = T.sum(1)
        volume += six.sum() / 6
        first += (six[:, None] * total).sum(0) / 24
        second += (np.einsum("n,ni,nj->ij", six, total, total) + np.einsum("n,nki,nkj->ij", six, T, T)) / 120
    com = first / volume
    spread = mass * (second / volume - np.outer(com, com))
    return com, np.trace(spread) * np.eye(3) - spread


def _write_ply(path: Path, scene: Reconstruction) -> None:
    """The coloured surface, in the world."""
    import trimesh  # an extra: only this verb needs it

    mesh = trimesh.Trimesh(scene.surface.vertices, scene.surface.faces, process=False)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.uint8(np.rint(255 * np.clip(scene.surface.colors, 0, 1))))
    mesh.export(path)
