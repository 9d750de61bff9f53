"""A scan becomes a model: against a scene whose truth is known, in three engines, and on a real scan."""

from __future__ import annotations

import importlib.util
import itertools
import os
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from drops import ENGINES, RADIUS, Outcome
from scans import BRICK, BRICK_AT, BRICK_COLOR, BRICK_YAW, TABLE, TIN, TIN_AT, TIN_COLOR, X_ST, make_scan

from samrl.real2sim import model_files
from samrl.real2sim.heldout import DepthError
from samrl.real2sim.pieces import hull
from samrl.real2sim.reconstruct import Reconstruction, ReconstructSettings, ScannedBody, describe, reconstruct
from samrl.real2sim.scan import Scan
from samrl.real2sim.tsdf import Surface

REAL = Path(os.environ.get("SAMRL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "rgbd_scan"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruct")
    make_scan(folder / "scan")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Reconstruction:
    scene = reconstruct(folder / "scan", ReconstructSettings(voxel=0.004, hold_out=8))
    model_files.write(scene, folder / "scene.xml")
    return scene


def in_table(found: Reconstruction) -> np.ndarray:
    """X_TW: the reconstruction's world in the true table's frame."""
    return np.linalg.inv(X_ST.double().numpy()) @ np.linalg.inv(found.X_WS)


def brick_and_tin(found: Reconstruction) -> tuple[ScannedBody, ScannedBody]:
    tin, brick = sorted(found.bodies, key=lambda b: float(b.pieces[0].color[0]))
    return brick, tin


def test_the_surface_lies_where_solids_are(found: Reconstruction) -> None:
    X = in_table(found)
    p = found.surface.vertices @ X[:3, :3].T + X[:3, 3]
    box = lambda q, half: np.linalg.norm(np.maximum(np.abs(q) - half, 0), axis=1) + np.minimum((np.abs(q) - half).max(1), 0)  # noqa: E731
    c, s = np.cos(BRICK_YAW), np.sin(BRICK_YAW)
    brick = box((p - BRICK_AT) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(BRICK))
    q = p - TIN_AT
    tin = np.maximum(np.hypot(q[:, 0], q[:, 1]) - TIN[0], np.abs(q[:, 2]) - TIN[1])
    off = np.abs(np.minimum(np.minimum(brick, tin), box(p - np.array([0, 0, -TABLE[2]]), np.array(TABLE))))
    assert np.median(off) < 1e-3 and np.percentile(off, 95) < 4e-3, np.percentile(off, [50, 95])
    assert found.error is not None and found.error.median < 2e-3 and found.error.covered > 0.95, found.error


def test_the_world_stands_on_the_table(found: Reconstruction) -> None:
    X = in_table(found)
    assert np.linalg.norm(X[:2, 2]) < np.radians(0.3) and X[2, 2] > 0, "z is not the table's"
    assert np.abs(X[:3, 3]).max() < 5e-3, "the origin is not in the middle of the table's top"
    table = found.fixed["support"].vertices
    assert np.allclose(np.ptp(table @ X[:3, :3].T, axis=0)[:2], 2 * np.array(TABLE[:2]), atol=0.02)


def test_objects_are_found_apart(found: Reconstruction) -> None:
    assert len(found.bodies) == 2 and all(b.free for b in found.bodies)
    X = in_table(found)
    for body, at, color, volume in zip(
        brick_and_tin(found), (BRICK_AT, TIN_AT), (BRICK_COLOR, TIN_COLOR),
        (8 * np.prod(BRICK), 2 * np.pi * TIN[0] ** 2 * TIN[1]), strict=True,
    ):  # fmt: skip
        corners = (np.concatenate([p.vertices for p in body.pieces]) + body.p_WB) @ X[:3, :3].T + X[:3, 3]
        middle = (corners.max(0) + corners.min(0)) / 2
        assert np.abs(middle - at).max() < 4e-3, f"{body.name} lies {1000 * (middle - at)} mm off"
        assert abs(np.ptp(corners[:, 2]) - 2 * at[2]) < 5e-3, f"{body.name} is {np.ptp(corners[:, 2]):.3f} m high"
        assert abs(body.mass / (found.density * volume) - 1) < 0.1, f"{body.name} weighs {body.mass:.3f} kg"
        share = np.array(body.pieces[0].color) / np.sum(body.pieces[0].color)
        assert np.abs(share - np.array(color) / np.sum(color)).max() < 0.1, f"{body.name} has the colour {body.pieces[0].color}"


def check_rest(outcome: Outcome, way: float) -> None:
    """The ball lies on the support, and no object went farther than `way` [m]."""
    assert max(outcome.speed.values()) < 2e-3, outcome
    assert abs(outcome.ball_z - RADIUS) < 1e-3, outcome
    assert max(np.abs(d).max() for n, d in outcome.way.items() if n != "ball") < way, outcome


def skip_without(engine: str) -> None:
    if engine == "pybullet" and importlib.util.find_spec("pybullet") is None:
        pytest.skip("there is no PyBullet for this Python")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_ball_comes_to_rest(engine: str, found: Reconstruction, folder: Path) -> None:
    skip_without(engine)
    check_rest(ENGINES[engine](found, folder / "scene.xml"), 0.003)


def test_the_same_scan_and_seed_give_the_same_files(found: Reconstruction, folder: Path) -> None:
    again = reconstruct(folder / "scan", ReconstructSettings(voxel=0.004, hold_out=8))
    model_files.write(again, folder / "again" / "scene.xml")
    for name in ("scene.xml", "scene/object_1_0.obj", "scene/support.obj", "scene/object_2.urdf"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_refinement_sees_the_frames_that_are_kept_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def nearer(surface: Surface, scan: Scan, voxel: float, max_depth: float, steps: int, say: object) -> Surface:
        seen.extend((len(scan.frames), steps))
        return replace(surface, vertices=surface.vertices + 0.02 * X_ST.double().numpy()[:3, 2])

    def apart(surface: Surface, scan: Scan, voxel: float, s: ReconstructSettings, error: DepthError) -> Reconstruction:
        slab = hull(np.array(list(itertools.product((-0.1, 0.1), repeat=3))), np.ones(3))
        return Reconstruction(surface, np.eye(4), (), {"support": slab}, voxel, s.density, error)

    monkeypatch.setattr("samrl.real2sim.reconstruct.refine", nearer)
    monkeypatch.setattr("samrl.real2sim.reconstruct.separate", apart)  # what comes after is tested above, and slow
    scene = reconstruct(folder / "scan", ReconstructSettings(voxel=0.012, hold_out=8, refine=3))
    assert seen == [14, 3], "of 16 frames two are held out"
    assert scene.error is not None and scene.fused is not None
    assert scene.fused.median < 2e-3 and scene.error.median > 8e-3, "the error is that of what the refinement made"
    assert any("before the refinement" in line for line in describe(scene))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reconstruction, Path]:
    if not REAL.is_dir():
        pytest.skip(f"there is no real scan at {REAL}; SAMRL_SHARED_DATA says where its parent folder is")
    scene = reconstruct(REAL, ReconstructSettings(voxel=0.02, hold_out=8, pieces=1))
    path = tmp_path_factory.mktemp("real") / "scene.xml"
    model_files.write(scene, path)
    return scene, path


def test_a_real_scan_predicts_depth_that_was_held_out(real: tuple[Reconstruction, Path]) -> None:
    scene, path = real
    assert scene.error is not None and scene.error.median < 0.010 and scene.error.covered > 0.9, scene.error
    assert 3 <= len(scene.bodies) <= 9, "cups, a box, a gamepad and a magazine stand on the table"
    assert "500 kg/m3" in path.read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_ball_comes_to_rest_on_a_real_table(engine: str, real: tuple[Reconstruction, Path]) -> None:
    skip_without(engine)
    check_rest(ENGINES[engine](*real), 0.01)


def test_the_urdf_loads_in_mujoco_with_the_inertia_of_the_mjcf(found: Reconstruction, folder: Path) -> None:
    """The same body twice: the URDF's inertia is ours, the MJCF's MuJoCo's own, from the meshes."""
    mjcf = mujoco.MjModel.from_xml_path(str(folder / "scene.xml"))
    for body in found.bodies:
        text = (folder / "scene" / f"{body.name}.urdf").read_text()
        text = text.replace("<robot", '<robot xmlns:mujoco="x"').replace(
            "</robot>", '<mujoco><compiler fusestatic="false" discardvisual="true"/></mujoco></robot>'
        )
        assets = {p.name: p.read_bytes() for p in (folder / "scene").glob("*.obj")}
        urdf = mujoco.MjModel.from_xml_string(text, assets)
        assert urdf.nmesh == len(body.pieces)
        both = [(m, m.body(body.name).id) for m in (urdf, mjcf)]
        assert np.isclose(*(m.body_mass[i] for m, i in both), rtol=1e-4)
        assert np.allclose(*(m.body_ipos[i] for m, i in both), atol=1e-4)
        assert np.allclose(*(np.sort(m.body_inertia[i]) for m, i in both), rtol=1e-2)
