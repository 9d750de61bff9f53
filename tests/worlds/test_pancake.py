"""Spatula-Flipping in the worlds: what is drawn lies in the pan, is seen, and the judge remembers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.sim2real.control_loop import native_camera
from samrl.tasks import registry as tasks
from samrl.tasks.spatula_flipping import PAN
from samrl.tasks.spec import Solid
from samrl.worlds import registry, settings
from samrl.worlds.picture import has_pybullet
from samrl.worlds.simulated import with_pieces

TASK = tasks.make("spatula-flipping")
WORLDS = [name for name in registry.names() if name != "pybullet" or has_pybullet()]


@pytest.fixture(params=WORLDS)
def world(request):
    torch.set_num_threads(1)
    made = registry.make(request.param, TASK, settings.load("nominal"))
    yield made
    made.close()


def test_a_pancake_of_its_own_size_lies_still_in_the_pan(world) -> None:
    for seed in (0, 1):
        half = TASK.draw(seed).rigid.body("pancake").solids[0].size[1]
        world.reset(seed)
        assert not np.isfinite(world.judge().measures()["moved"])  # nothing is known yet of how it moves
        for _ in range(3):
            world.act(np.zeros(6))
        m = world.judge().measures()
        assert m["moved"] < 5e-4 and m["up"] > 0.999 and m["lifted"] == 0 and m["height"] == pytest.approx(half, abs=4e-4)
        assert not world.judge().success()


def test_each_body_is_seen_where_it_is(world) -> None:
    observation = world.reset(0)
    camera = native_camera(TASK, observation.X_WC)
    (image,) = world.look(observation.X_WC)
    for name, X in world.judge().poses().items():
        u, v = camera.project(torch.as_tensor(X[:3, 3])[None])[0, :2].round().long().tolist()
        around = image.masks[name][max(v - 30, 0) : v + 30, max(u - 30, 0) : u + 30]
        assert image.masks[name].sum() > 500 and around.mean() > 0.2, name


def test_the_judge_remembers_that_it_was_lifted(world) -> None:
    """The pancake's pose is the world's; what it did is judged by poses alone, so poses are put in its place."""
    world.reset(0)
    poses, place = world._poses, {}
    world._poses = lambda: {**poses(), **place}
    for height, over in ((0.05, False), (0.05, True), (0.004, True), (0.004, True)):
        X = np.diag([1.0, -1.0, -1.0, 1.0]) if over else np.eye(4)
        X[:3, 3] = PAN[0], PAN[1], PAN[2] + height
        place["pancake"] = X
        if height < 0.01 and world.judge().success():
            break
        world.act(np.zeros(6))
    assert world.judge().measures()["lifted"] == 1 and world.judge().success()
    world.reset(0)
    assert not world.judge().success() and world.judge().measures()["lifted"] == 0


def test_friction_is_the_tasks(world) -> None:
    """A world's own errors draw no other."""
    for seed in range(3):
        world.reset(seed)
        for each in felt(world):
            assert each == pytest.approx(TASK.draw(seed).info["friction"], rel=1e-6)


def felt(world) -> list[float]:
    """Friction between each piece of the pancake and the spatula, as the engine has it."""
    engine = world._engine
    if hasattr(engine, "trees"):
        import pybullet

        c, cake, blade = {"physicsClientId": engine._client}, engine.trees["pancake"].id, engine.trees["spatula"].id
        own = lambda body, link: pybullet.getDynamicsInfo(body, link, **c)[1]  # noqa: E731
        return [own(cake, link) * own(blade, -1) for link in range(-1, 6)]
    m = engine._model
    owner = lambda geom: m.geom(int(geom)).name.split("/")[0]  # noqa: E731
    both = [{owner(a), owner(b)} for a, b in zip(m.pair_geom1, m.pair_geom2, strict=True)]
    pieces = [i for i, pair in enumerate(both) if "spatula" in pair and any(name.startswith("pancake") for name in pair)]
    assert len(pieces) >= 7
    return [float(m.pair_friction[i][0]) for i in pieces]


def test_its_petals_sag_as_their_joints_let_them(world) -> None:
    """On a post under its middle piece alone: weight times arm against the springs."""
    draw = TASK.draw(0)
    post = Solid("cylinder", (0.02, 0.1), collide=True, friction=0.6)
    true = draw.scene.with_body("pan", p=(*draw.scene.body("pancake").p[:2], PAN[2] - 0.1), solids=(post,))
    engine = world._make_engine(replace(draw, scene=true))
    for _ in range(2000):
        engine.step(np.zeros(7))
    poses, middle = engine.poses(), true.body("pancake")
    engine.close()
    for i in range(6):
        petal = true.body(f"pancake{i}")
        angle = float(np.arcsin(-(poses["pancake"][:3, :3].T @ poses[petal.name][:3, 0])[2]))
        wanted = petal.mass * 9.81 * petal.com[0] * np.cos(angle) / petal.joint.stiffness
        assert angle == pytest.approx(wanted, rel=0.15), f"petal {i}: {np.degrees(angle):.1f} degrees, {np.degrees(wanted):.1f}"
    assert poses["pancake"][2, 3] - PAN[2] == pytest.approx(middle.solids[0].points[1][2], abs=5e-4)


def test_all_its_pieces_are_in_its_mask_and_are_its_mass() -> None:
    draw = TASK.draw(0)
    assert with_pieces(draw.scene, TASK.scene)["pancake"] == ("pancake", *(f"pancake{i}" for i in range(6)))
    pieces = [b for b in draw.scene.bodies if b.name.startswith("pancake")]
    assert sum(b.mass for b in pieces) == pytest.approx(draw.rigid.body("pancake").mass, rel=1e-9)
    middle, petal = pieces[0], pieces[1]
    far = max(np.hypot(petal.p[0] + x, y) for x, y, _ in petal.solids[0].points)
    assert far == pytest.approx(draw.rigid.body("pancake").solids[0].size[0], abs=1e-6)
    assert middle.inertia[0] + middle.inertia[1] >= middle.inertia[2]


@pytest.mark.skipif(not has_pybullet(), reason="PyBullet is not installed")
@pytest.mark.parametrize("height", [0.0015, 0.002, 0.003])
def test_it_is_not_shot_out_between_blade_and_rim(height: float) -> None:
    """A blade of two kilogrammes pushes it against a wall. Were its pieces rigid, it would leave three to six times as fast."""
    import pybullet

    from samrl.worlds import bullet_bodies as bodies

    client, step, speed, fastest = pybullet.connect(pybullet.DIRECT), 0.00025, 0.6, 0.0
    c, still = {"physicsClientId": client}, [0, 0, 0, 1]
    pybullet.setGravity(0, 0, -9.81, **c)
    pybullet.setPhysicsEngineParameter(fixedTimeStep=step, numSolverIterations=60, **c)
    for half, p in (((0.3, 0.3, 0.02), [0, 0, -0.02]), ((0.02, 0.3, 0.02), [0.0805, 0, 0])):
        bodies.finish(
            pybullet.createMultiBody(0, bodies.shape_of(client, (Solid("box", half, collide=True),)), -1, p, **c), -1, 0.3, c
        )
    blade = bodies.shape_of(client, tuple(s for s in TASK.scene.body("spatula").solids if s.collide))
    pusher = pybullet.createMultiBody(2.0, blade, -1, [-0.108, 0, height], still, **c)
    scene = TASK.draw(0).scene
    X = np.eye(4)
    X[2, 3] = scene.body("pancake").p[2] - PAN[2]
    cake = bodies.Tree(client, scene, scene.body("pancake"), X, step)
    for i in range(600):
        if i < 200:
            pybullet.resetBaseVelocity(pusher, [speed, 0, 0], [0, 0, 0], **c)
        cake.pull()
        pybullet.stepSimulation(**c)
        fastest = max(fastest, float(np.linalg.norm(pybullet.getBaseVelocity(cake.id, **c)[0])))
    pybullet.disconnect(client)
    assert fastest < 2 * speed
