"""Identification: derivatives, one estimate, its evidence, the mixture, and what is written of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model.scene import State, compile_mjcf
from samrl.real2sim.identify import evidence, mixture
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import Columns, make_columns, read_columns
from samrl.real2sim.identify.descent import calm_gradient, shares, sizes, units, widths
from samrl.real2sim.identify.fit import fit
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.motion import Motion
from samrl.real2sim.identify.problem import Problem, finite_residuals
from samrl.real2sim.identify.recording import read_recordings
from samrl.real2sim.identify.scene_file import write_scene
from samrl.real2sim.identify.windows import Windows, cut

EXAMPLES = Path(__file__).parents[2] / "examples" / "identify"
DOUBLE = EXAMPLES / "double_pendulum.xml"
BALL = """<mujoco><worldbody><body name="a"><joint name="s" type="ball" damping="1e-3"/>
  <inertial pos="0 0 -.2" mass=".2" diaginertia="2e-3 1e-3 1e-3"/></body></worldbody></mujoco>"""
TUMBLE = """<mujoco><worldbody><geom name="table" type="plane" size="1 1 .1"/><body name="c" pos="0 0 3"><freejoint name="f"/>
  <geom name="box" type="box" size=".05 .03 .02" mass=".3"/></body></worldbody></mujoco>"""
ANGLES = {"time": 0.04, "angles": {"shoulder": "a", "elbow": "b"}}
CASES = {  # scene, what is free, columns, starts q and qd
    "hinges": (DOUBLE, ("masses", "com-distances", "link-lengths", "inertias", "damping"), ANGLES),
    "marker": (
        DOUBLE, ("link-lengths", "coms:arm2", "moments:arm1"),
        ANGLES | {"markers": {"m": {"body": "arm2", "at": [0, 0, -0.1], "columns": ["x", "z"], "axes": ["x", "z"]}}},
    ),
    "ball": (BALL, ("coms", "moments", "masses"), {"time": 0.04, "angles": {"s": list("wxyz")}}),
    "balls": (
        EXAMPLES / "ball_pendulum.xml", ("link-lengths", "com-distances"),
        {"time": 0.04, "angles": {"shoulder": list("abcd"), "elbow": list("wxyz")}},
    ),
    "free": (TUMBLE, ("gravity", "moments", "masses"), {"time": 0.04, "poses": {"c": ["x", "y", "z", "qw", "qx", "qy", "qz"]}}),
}  # fmt: skip


def synthetic(
    name: str, count: int = 6, noise: float = 0.0, seed: int = 0, known: bool = True, periods: int = 10
) -> tuple[Problem, Tensor]:
    """A problem whose motion was simulated with parameters up to 30 % away from the scene's, and these as x."""
    source, words, told = CASES[name]
    scene, params, state = compile_mjcf(source, torch.float64)
    free, generator = Free(scene, params, words), torch.Generator().manual_seed(seed)
    channels = make_channels(scene, params, make_columns(told, "test"))
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    q = state.q.expand(count, -1).clone()
    if name in ("hinges", "marker"):
        q += draw(count, scene.nq)
    qd = draw(count, scene.nv) * 2
    width = sum(w for c in channels for _, w in c.parts)
    blank = torch.zeros(count, periods + 1, width, dtype=torch.float64)
    windows = Windows(q, qd, blank, 0.04, np.arange(count), tuple(map(str, range(count))), np.zeros(count), True)
    problem, truth = Problem(free, channels, windows, substep=2e-3, smooth=name != "free"), free.off(0.3, seed)
    with torch.no_grad():
        exact = problem.residuals(truth, torch.zeros(count, 2 * scene.nv, dtype=torch.float64))
    read = windows if known else replace(windows, q=q + noise * draw(*q.shape), qd=qd + 0.05 * draw(*qd.shape))
    return problem.on(replace(read, target=exact + noise * draw(*exact.shape))), truth


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("starts", [False, True])
def test_sensitivities_are_those_of_finite_differences(name: str, starts: bool) -> None:
    problem, x = synthetic(name, count=2)
    nv = problem.free.scene.nv
    d = 0.1 * torch.randn(2, 2 * nv, generator=torch.Generator().manual_seed(1), dtype=x.dtype) if starts else None
    r, by_x, by_d = problem.sensitivities(x, d)
    assert torch.allclose(r, problem.residuals(x, d).detach(), atol=1e-12)
    for i in range(len(x)):
        step = torch.zeros_like(x)
        step[i] = 1e-5
        both = (finite_residuals(problem, x + step, d) - finite_residuals(problem, x - step, d)) / 2e-5
        assert torch.allclose(by_x[..., i], both, rtol=1e-4, atol=1e-6), problem.free.labels[i]
    for i in range(2 * nv if starts else 0):
        step = torch.zeros_like(d)
        step[:, i] = 1e-5
        both = (finite_residuals(problem, x, d + step) - finite_residuals(problem, x, d - step)) / 2e-5
        assert torch.allclose(by_d[..., i], both, rtol=1e-4, atol=1e-6), i


def test_extrapolated_motion_is_of_second_order() -> None:
    scene, params, _ = compile_mjcf(DOUBLE, torch.float64)
    start = State(torch.tensor([[1.0, 0.7]], dtype=torch.float64), torch.tensor([[2.0, -3.0]], dtype=torch.float64))
    run = lambda h, smooth: Motion(scene, period=0.04, substep=h, smooth=smooth).roll(params, start, 10).q[-1]  # noqa: E731
    exact = run(2.5e-4, True)
    plain, coarse, fine = ((run(h, s) - exact).abs().max() for h, s in ((2e-3, False), (4e-3, True), (2e-3, True)))
    assert fine < plain / 20 and coarse / fine == pytest.approx(4.0, rel=0.3)


def test_lengths_of_arms_on_ball_joints() -> None:
    """The model that Heiden et al. have of the double pendulum (Sec. V): joints turn in space."""
    problem, truth = synthetic("balls", count=6, noise=1e-3)
    found = fit(problem, problem.free.start)
    length = problem.free.labels.index("link-lengths:arm2")
    assert abs(float((problem.free.start - truth)[length])) > 0.05 > 20 * abs(float((found.x - truth)[length]))


@pytest.mark.parametrize("known", [True, False])
def test_an_estimate_finds_the_truth_from_half_away(known: bool) -> None:
    problem, truth = synthetic("hinges", count=12, noise=1e-4, known=known)
    found = fit(problem, problem.free.off(0.5, 3), starts="read" if known else "estimate", epochs=60)
    length = problem.free.labels.index("link-lengths:arm2")
    assert abs(float((found.x - truth)[length])) < 2e-3
    told = evidence.weigh(problem, found)
    assert told.noise == pytest.approx(1e-4, rel=0.15)
    inside = (told.low <= problem.free.values(truth)) & (problem.free.values(truth) <= told.high)
    assert int(inside.sum()) >= 7  # of nine intervals of 90 %
    assert len(told.null) == 3  # masses, centres and inertias of a pendulum are three numbers too many
    moved = finite_residuals(problem, found.x + 0.02 * told.null[0] / told.null[0].abs().max(), found.d)
    assert float((moved - finite_residuals(problem, found.x, found.d)).abs().max()) < 2e-3
    assert sum("all at once" in words for words in told.words) == 3


def test_starts_are_tied_as_tightly_as_they_were_read() -> None:
    """Between what is estimated (nothing known of them) and what is read (known for certain); where they are known to be as far
    off as they are, both they and the numbers are nearer to the truth."""
    problem, truth = synthetic("hinges", count=12, noise=1e-3)
    generator = torch.Generator().manual_seed(5)
    error = 0.02 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    w = problem.windows
    read = replace(w, q=w.q + error[:, :2], qd=w.qd + error[:, 2:])
    run = lambda starts, spread=None: fit(  # noqa: E731
        problem.on(replace(read, spread=None if spread is None else torch.full((12, 4), spread, dtype=torch.float64))),
        problem.free.start, starts=starts, epochs=40, robust=False,
    )  # fmt: skip
    free, held = run("estimate"), run("read")
    told = evidence.weigh(problem.on(read), free)
    unit = told.covariance.diagonal().sqrt()
    assert float(((run("tied", 1e4).x - free.x) / unit).abs().max()) < 0.05
    assert float(((run("tied", 1e-9).x - held.x) / unit).abs().max()) < 0.05
    tied = run("tied", 0.02)
    assert tied.d is not None and free.d is not None
    assert float((tied.d + error).norm()) < float((free.d + error).norm())
    length = problem.free.labels.index("link-lengths:arm2")
    assert abs(float((tied.x - truth)[length])) < abs(float((held.x - truth)[length]))
    bars = evidence.weigh(problem.on(read), tied)
    assert bool((bars.covariance.diagonal() < 1.1 * told.covariance.diagonal()).all())
    with pytest.raises(SamrlError, match="nobody said how far off"):
        run("tied")
    with pytest.raises(SamrlError, match="unknown way to 'guess'"):
        fit(problem, truth, starts="guess")


def test_adam_goes_down_too() -> None:
    problem, truth = synthetic("hinges", count=8)
    found = fit(problem, problem.free.start, method="adam", epochs=30, batch=4)
    assert found.losses[-1] < 0.2 * found.losses[0] and len(found.losses) == 31
    with pytest.raises(SamrlError, match="Adam takes starts as they were read"):
        fit(problem, truth, method="adam", starts="estimate")
    with pytest.raises(SamrlError, match="unknown method 'newton'"):
        fit(problem, truth, method="newton")


@pytest.mark.parametrize(("name", "count"), [("hinges", 2), ("free", 4)])
def test_adams_units_move_motion_by_as_much_as_it_is_off(name: str, count: int) -> None:
    """In sizes of two headings, or of three coordinates and a turn, which count a third of half each and half."""
    problem, _ = synthetic(name, count=5)
    x, most = problem.free.start, problem.free.deviations(0.5)
    unit, width, before = units(problem, x), widths(problem, x), finite_residuals(problem, x)
    assert bool((unit <= most).all()) and bool((unit < 0.99 * most).any())
    assert width.shape == (count,) and float(shares(problem).sum()) == pytest.approx(1) and shares(problem)[-1] == 0.5
    for i in range(len(x)):
        step = torch.zeros_like(x)
        step[i] = 1e-4 * unit[i]
        moves = (sizes(problem, finite_residuals(problem, x + step) - before) / width).square() @ shares(problem)
        moved = float(moves.mean(1).sqrt().median()) * 1e4
        assert moved < 1.01 and (moved > 0.99 or unit[i] > 0.99 * most[i]), problem.free.labels[i]


def test_one_chaotic_window_does_not_lead_adam() -> None:
    """The length of each window's part of the gradient is at most the median's."""
    problem, _ = synthetic("hinges", count=6)
    target = problem.windows.target.clone()
    target[0] *= -20
    spoiled = problem.on(replace(problem.windows, target=target))
    loss, calm = calm_gradient(spoiled, problem.free.start)
    xs = problem.free.start.expand(6, -1).clone().requires_grad_()
    r = torch.stack([spoiled.on(spoiled.windows.of([i])).residuals(xs[i]).square().mean() for i in range(6)])
    (each,) = torch.autograd.grad(r.sum(), xs)
    assert loss == pytest.approx(float(r.detach().mean()))
    assert float(each[0].norm()) > 3 * float(each.norm(dim=1).median())
    shorter = each * (each.norm(dim=1).median() / each.norm(dim=1)).clamp(max=1)[:, None]
    assert torch.allclose(calm, shorter.mean(0), rtol=1e-9)


def test_long_windows_are_explained_from_their_beginnings() -> None:
    """Three seconds of a chaotic pendulum, from half away: windows that long alone lead astray."""
    problem, truth = synthetic("hinges", count=6, periods=60)
    length = problem.free.labels.index("link-lengths:arm2")
    found = fit(problem, problem.free.off(0.3, 8), starts="estimate", epochs=60)
    assert abs(float((found.x - truth)[length])) < 2e-3


def test_a_stretch_that_no_model_explains_is_weighed_down() -> None:
    problem, truth = synthetic("hinges", count=12, noise=1e-4)
    target = problem.windows.target.clone()
    target[:2] += 0.3 * torch.randn(target[:2].shape, generator=torch.Generator().manual_seed(0), dtype=target.dtype)
    spoiled = problem.on(replace(problem.windows, target=target))
    length = problem.free.labels.index("link-lengths:arm2")
    robust, plain = (fit(spoiled, problem.free.start, robust=r, epochs=50).x for r in (True, False))
    assert abs(float((robust - truth)[length])) < 5e-3 < abs(float((plain - truth)[length]))


def test_what_motion_does_not_show_is_said() -> None:
    scene, params, _ = compile_mjcf(BALL, torch.float64)
    problem, truth = synthetic("ball", count=4, noise=1e-4)
    told = evidence.weigh(problem, fit(problem, truth, epochs=3))
    assert any("masses:a" in words for words in told.words)  # only its shares with the inertia show
    free = Free(scene, params, ["masses"])
    alone = Problem(free, problem.channels, problem.windows, substep=2e-3)
    J = alone.sensitivities(free.start)[1].flatten(0, 2)
    information = J.mT @ J
    null = evidence.null_directions(0 * information, free.deviations(0.5) ** -2)
    assert evidence.describe(free, null) == ["masses:a does not show in this motion."]


@pytest.mark.parametrize("objective", ["posterior", "huber"])
def test_a_mixture_learns_while_motion_comes_in(objective: str) -> None:
    problem, truth = synthetic("hinges", count=8, noise=1e-3)
    free = Free(problem.free.scene, problem.free.params, ["link-lengths", "damping"])
    part = Problem(free, problem.channels, problem.windows, substep=2e-3)
    rest = problem.free.put(truth)
    free.params = rest.replace(link_p=free.params.link_p, damping=free.params.damping)
    free = Free(problem.free.scene, free.params, ["link-lengths", "damping"])
    part = Problem(free, problem.channels, problem.windows, substep=2e-3)
    true = Free(problem.free.scene, rest, ["link-lengths", "damping"]).start
    settings = mixture.Settings(epochs=40, objective=objective, online=0.5, samples=2)
    learned = mixture.learn(part, free.start, settings)
    assert learned.seen[0] < 8 and learned.seen[-1] == 8 and len(learned.history) == 41
    assert abs(float((learned.mixture.mean() - true)[0])) < (0.02 if objective == "posterior" else 0.1)
    if objective == "posterior":
        assert learned.noise == pytest.approx(1e-3, rel=0.15)
        assert bool(learned.mixture.holds(true, 0.99, torch.Generator().manual_seed(0)))
        told = evidence.weigh(part, fit(part, free.start, robust=False)).information
        narrow = torch.linalg.inv(told + torch.diag(free.deviations(0.5) ** -2)) * learned.inflation
        assert torch.allclose(learned.mixture.covariance().diagonal(), narrow.diagonal(), rtol=0.15)  # nearly Gaussian here


def test_a_mixture_is_a_density() -> None:
    """Its regions hold as much as they say, and its moments are those of its draws."""
    generator = torch.Generator().manual_seed(0)
    trils = torch.eye(2, dtype=torch.float64) * torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None]
    trils[1, 1, 0] = 1.5
    means = torch.tensor([[0.0, 0.0], [4.0, 1.0]], dtype=torch.float64)
    m = mixture.Mixture(torch.tensor([0.3, 0.7], dtype=torch.float64).log(), means, trils)
    x = m.sample(20000, generator)
    assert torch.allclose(x.mean(0), m.mean(), atol=0.05) and torch.allclose(x.T.cov(), m.covariance(), atol=0.2)
    assert float(m.holds(x, 0.9, generator).double().mean()) == pytest.approx(0.9, abs=0.015)
    grid = torch.cartesian_prod(*(torch.linspace(-20, 25, 451, dtype=torch.float64),) * 2)
    assert float(m.log_prob(grid).exp().sum()) * 0.01 == pytest.approx(1.0, abs=1e-3)


def test_words_for_what_is_free() -> None:
    scene, params, _ = compile_mjcf(DOUBLE, torch.float64)
    free = Free(scene, params, ["masses:arm2", "link-lengths", "coms:arm1"])
    assert free.labels == ["masses:arm2", "link-lengths:arm2", "coms:arm1.x", "coms:arm1.y", "coms:arm1.z"]
    assert torch.allclose(free.values(free.start), torch.tensor([0.1, 0.2, 0.0, 0.0, -0.1], dtype=torch.float64))
    assert torch.allclose(free.numbers(free.values(free.start)), free.start)
    for words, kind, sentence in (
        (["mases"], UnknownNameError, "did you mean 'masses'"), (["masses:arm3"], UnknownNameError, "unknown 'masses' of 'arm3'"),
        (["friction"], SamrlError, "no named geom of a moving body touches"), (["stiffness"], SamrlError, "above zero"),
        ([], SamrlError, "nothing to look for"),
    ):  # fmt: skip
        with pytest.raises(kind, match=sentence):
            Free(scene, params, words)


def test_the_scene_is_written_with_what_was_found(tmp_path: Path) -> None:
    scene, params, _ = compile_mjcf(DOUBLE, torch.float64)
    free = Free(scene, params, ["masses", "com-distances", "link-lengths", "moments", "damping", "gravity"])
    found = free.put(free.off(0.4, 1))
    again = compile_mjcf(write_scene(DOUBLE, scene, found), torch.float64)[1]
    for name in ("link_p", "mass", "com", "inertia", "damping", "gravity"):
        assert torch.allclose(getattr(again, name), getattr(found, name), rtol=1e-4, atol=1e-8), name


def test_the_length_of_a_real_pendulum() -> None:
    """Real data: L1 within 1 % of its authors' .17272 m, all numbers started up to half of themselves off."""
    columns: Columns = read_columns(EXAMPLES / "double_pendulum.yaml")
    scene, params, _ = compile_mjcf(DOUBLE, torch.float64)
    channels = make_channels(scene, params, columns)
    recordings, _ = read_recordings([EXAMPLES / "double_pendulum.npz"], columns)
    windows = cut(scene, recordings, channels, length=0.4, rate=25)
    free = Free(scene, params, ["masses", "com-distances", "link-lengths", "inertias", "damping"])
    problem = Problem(free, channels, windows)
    found = fit(problem, free.off(0.5, 5), starts="estimate", epochs=80)
    told = evidence.weigh(problem, found)
    at = free.labels.index("link-lengths:arm2")
    assert float(free.values(found.x)[at]) == pytest.approx(0.17272, rel=0.01)
    assert float((told.high - told.low)[at]) < 0.002 and len(told.words) == 3
    assert told.noise < 1e-3 and len(found.losses) <= 81


def test_a_rounded_cube_is_written_with_its_size() -> None:
    scene, params, _ = compile_mjcf(EXAMPLES / "cube.xml", torch.float64)
    found = Free(scene, params, ["sizes:cube", "contact-stiffness:cube", "friction:cube"])
    larger = found.put(found.start + 0.2)
    again = compile_mjcf(write_scene(EXAMPLES / "cube.xml", scene, larger), torch.float64)[1]
    for name in ("geom_size", "contact_stiffness", "friction"):
        assert torch.allclose(getattr(again, name), getattr(larger, name), rtol=1e-4), name
