"""A surface refined by its views: nearer to views that it was not refined by, and nowhere through itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samrl.core.camera import Camera, viewpoint
from samrl.core.errors import ScanError
from samrl.model.render import Settings, rasterize, surface_mesh
from samrl.real2sim import heldout
from samrl.real2sim.crossings import Crossings
from samrl.real2sim.refine import refine
from samrl.real2sim.scan import Scan, read_scan, write_scan
from samrl.real2sim.tsdf import Surface

RADIUS, EDGE = 0.1, 0.012  # of the ball; about how long its edges are [m]


def ball(n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (V, 3) and faces (F, 3): an octahedron's, cut in four n times."""
    p = [np.array(v, float) for v in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))]
    faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    for _ in range(n):
        middle: dict[tuple[int, int], int] = {}

        def half(a: int, b: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(a, b), max(a, b))
            if key not in middle:
                middle[key] = len(p)
                p.append((p[a] + p[b]) / np.linalg.norm(p[a] + p[b]))
            return middle[key]

        cut = [(f, half(f[0], f[1]), half(f[1], f[2]), half(f[2], f[0])) for f in faces]
        faces = [t for (a, b, c), ab, bc, ca in cut for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.array(p), np.array(faces)


def bumpy(u: np.ndarray) -> np.ndarray:
    """What is scanned (V, 3) [m]."""
    return u * (RADIUS + 0.006 * np.sin(9 * u[:, :1]) * np.cos(7 * u[:, 2:]) + 0.004 * np.sin(8 * u[:, 1:2]))


def paint(u: np.ndarray) -> np.ndarray:
    return np.float32(0.5 + 0.35 * np.sin(6 * u + np.array([0, 1, 2])))


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scan, Scan]:
    """Ten views of the bumpy ball with a sensor's noise: eight to refine by, two held out."""
    u, faces = ball(5)
    yaw = torch.arange(10) * 2.4
    pitch = torch.tensor([0.3, -0.5, 0.9, -0.1, -0.9, 0.5, 0.1, -0.3, 0.2, -0.4])
    X = viewpoint(torch.zeros(10, 3), yaw, pitch, torch.full((10,), 0.5))
    camera = Camera.from_fov(160, 120, 0.55, X)
    vertices, colors = (torch.tensor(x, dtype=torch.float32) for x in (bumpy(u), paint(u)))
    image = rasterize(vertices, colors, surface_mesh(faces), camera, Settings(threads=1))
    depth = image.depth + 0.002 * image.depth**2 * torch.randn(image.depth.shape, generator=torch.Generator().manual_seed(0))
    depth = torch.where(image.valid, depth, 0.0)
    fx, fy, cx, cy = camera.K.tolist()
    folder = tmp_path_factory.mktemp("refine") / "scan"
    write_scan(folder, image.color.numpy(), depth.numpy(), X.double().numpy(), np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
    scan = read_scan(folder)
    part = lambda frames: Scan(frames, scan.K, scan.width, scan.height)  # noqa: E731
    return part(scan.frames[:8]), part(scan.frames[8:])


def first() -> Surface:
    """A grey ball without bumps, a little too large."""
    u, faces = ball()
    return Surface(1.01 * RADIUS * u, faces, np.full((len(u), 3), 0.5, np.float32), np.ones(len(u)))


def test_shape_and_colour_come_nearer_to_held_out_views(views: tuple[Scan, Scan]) -> None:
    kept, held = views
    before, told = first(), []
    after = refine(before, kept, EDGE, 4.0, 25, told.append)
    off = [heldout.depth_error(s, held, 4.0) for s in (before, after)]
    assert off[1].median < 0.7 * off[0].median and off[1].tenth < 0.7 * off[0].tenth, off
    assert off[1].covered > off[0].covered, off
    assert len(told) == 25
    u = ball()[0]
    truth = [np.abs(np.linalg.norm(s.vertices, axis=1) - np.linalg.norm(bumpy(u), axis=1)).mean() for s in (before, after)]
    assert truth[1] < 0.5 * truth[0], truth
    color = [np.abs(s.colors - paint(u)).mean() for s in (before, after)]
    assert color[1] < 0.3 * color[0], color
    assert not Crossings(after.vertices, after.faces).find(after.vertices).any()


def test_no_view_of_the_surface_is_an_error(views: tuple[Scan, Scan]) -> None:
    away = first()
    with pytest.raises(ScanError, match="no view sees the surface"):
        refine(Surface(away.vertices + 9.0, away.faces, away.colors, away.weight), views[0], EDGE, 4.0, 1)


def test_crossing_faces_are_found() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    through = np.array([[0.2, 0.2, -0.5], [0.3, 0.2, 0.5], [0.2, 0.3, 0.5]])
    faces = np.arange(6).reshape(2, 3)

    def crosses(*shift: float) -> list[bool]:
        vertices = np.concatenate([square, through + shift])
        return Crossings(vertices, faces).find(vertices).tolist()

    assert crosses(0, 0, 0) == [True, True]
    assert crosses(0.9, 0.9, 0) == [False, False], "its plane is met outside of the triangle"
    assert crosses(0, 0, 0.6) == [False, False]


def test_steps_that_cross_are_taken_back_where_they_do() -> None:
    u, faces = ball(3)
    at = RADIUS * u
    crossings = Crossings(at, faces)
    none = np.zeros(len(faces), bool)
    assert not crossings.find(at).any()
    there = at.copy()
    pole = int(np.argmax(u[:, 2]))
    there[pole] = [0, 0, -1.2 * RADIUS]  # out on the other side
    there[int(np.argmax(u[:, 0]))] *= 1.02  # harmless
    assert crossings.find(there).any()
    free = crossings.free_step(at, there, none)
    assert not crossings.find(free).any()
    assert np.array_equal(free[pole], at[pole]) and np.array_equal(free[np.argmax(u[:, 0])], there[np.argmax(u[:, 0])])
