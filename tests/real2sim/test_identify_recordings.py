"""What is read of files of motion, and what is said where they are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model.scene import compile_mjcf
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import Columns, make_columns, read_columns
from samrl.real2sim.identify.recording import read_recordings
from samrl.real2sim.identify.slopes import speeds, spread
from samrl.real2sim.identify.windows import cut, moved

ARM = """<mujoco><worldbody><body name="a"><joint name="hip" axis="0 1 0" damping="1e-3"/>
  <inertial pos="0 0 -.1" mass=".2" diaginertia="1e-3 1e-3 1e-3"/>
  <body name="b" pos="0 0 -.2"><joint name="knee" axis="0 1 0"/><inertial pos="0 0 -.1" mass=".1" diaginertia="1e-3 1e-3 1e-3"/>
  </body></body></worldbody></mujoco>"""
HIP_KNEE = make_columns({"time": "t", "angles": {"hip": "p", "knee": "k"}, "absolute": True, "zero": np.pi}, "test")


def write(path: Path, table: dict[str, np.ndarray]) -> Path:
    rows = [",".join(table), *(",".join(f"{v:.9g}" for v in row) for row in np.stack(list(table.values()), 1))]
    path.write_text("\n".join(rows))
    return path


def swing(count: int = 101, step: float = 0.01) -> dict[str, np.ndarray]:
    t = step * np.arange(count)
    return {"t": t, "p": np.pi + np.sin(3 * t), "k": np.pi - 0.5 * np.cos(5 * t)}


def test_absolute_angles_become_joint_coordinates(tmp_path: Path) -> None:
    recordings, notes = read_recordings([write(tmp_path / "a.csv", swing())], HIP_KNEE)
    scene, params, _ = compile_mjcf(ARM, torch.float64)
    windows = cut(scene, recordings, make_channels(scene, params, HIP_KNEE), length=0.2, rate=50)
    assert not notes and len(windows) == 5 and windows.periods == 10 and windows.period == pytest.approx(0.02)
    t = torch.arange(5, dtype=torch.float64) * 0.2
    hip, knee = (3 * t).sin(), -0.5 * (5 * t).cos()
    assert torch.allclose(windows.q, torch.stack([hip, knee - hip], 1), atol=1e-7)
    rates = torch.stack([3 * (3 * t).cos(), 2.5 * (5 * t).sin() - 3 * (3 * t).cos()], 1)
    assert torch.allclose(windows.qd, rates, atol=5e-3)  # slopes of neighbouring rows
    assert torch.allclose(windows.target[:, 0], torch.stack([-hip.cos(), -hip.sin(), -knee.cos(), -knee.sin()], 1), atol=1e-7)


def test_what_is_wrong_with_rows_is_mended_and_said(tmp_path: Path) -> None:
    table = swing(101)
    table["p"] = np.angle(np.exp(1j * (table["p"] + 9 * table["t"])))  # wraps
    table["k"][40] = np.nan
    keep = np.r_[0:20, 30:101]  # a gap
    recordings, notes = read_recordings([write(tmp_path / "a.csv", {k: v[keep] for k, v in table.items()})], HIP_KNEE)
    assert [r.length for r in recordings] == [20, 10, 60]
    said = " ".join(notes)
    assert "1 of 91 rows hold something that is no finite" in said and "2 gaps" in said and "wraps" in said
    assert max(np.abs(np.diff(r.values["p"])).max() for r in recordings) < 0.2


def test_uneven_times_are_interpolated(tmp_path: Path) -> None:
    table, rng = swing(200), np.random.default_rng(0)
    late = table["t"] + rng.uniform(0, 0.003, 200)
    table = {"t": late, "p": np.pi + np.sin(3 * late), "k": np.pi - 0.5 * np.cos(5 * late)}
    (recording,), notes = read_recordings([write(tmp_path / "a.csv", table)], HIP_KNEE)
    assert "uneven" in notes[0]
    even = late[0] + recording.step * np.arange(recording.length)
    assert np.abs(recording.values["p"] - np.pi - np.sin(3 * even)).max() < 5e-4


def test_slopes_of_turning_bodies() -> None:
    """Angular velocity of a ball joint from its quaternions, in the body's axes."""
    xml = """<mujoco><worldbody><body name="a"><joint name="j" type="ball"/><geom size=".1"/></body></worldbody></mujoco>"""
    scene, _, _ = compile_mjcf(xml, torch.float64)
    w = torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)
    t = torch.arange(50, dtype=torch.float64)[:, None] * 1e-2
    start = lie.quat_from_matrix(lie.exp_so3(torch.tensor([0.3, 0.1, -2.0], dtype=torch.float64))).expand(50, 4)
    q = moved(scene, start, w * t)
    assert np.abs(speeds(scene, q.numpy(), 1e-2) - w.numpy()).max() < 1e-4


def test_how_far_off_rows_are_is_told_by_their_scatter() -> None:
    """At the ends, where a slope is that of a cubic's end, too; of recorded velocities by their own scatter."""
    scene, _, _ = compile_mjcf(Path(__file__).parents[2] / "examples" / "identify" / "double_pendulum.xml", torch.float64)
    rng, t = np.random.default_rng(0), np.arange(300)[:, None] * 1e-3
    q, qd = np.sin(5 * t + [0.0, 1.0]), 5 * np.cos(5 * t + [0.0, 1.0])
    noisy = q + np.array([1e-5, 3e-5]) * rng.standard_normal((400, 300, 2))
    off = np.concatenate([noisy - q, np.stack([speeds(scene, y, 1e-3) for y in noisy]) - qd], -1).std(0)
    told = np.mean([spread(scene, y, None, 1e-3) for y in noisy[:30]], 0)
    assert np.abs(told / off - 1).max() < 0.15 and told[0, 2] > 3 * told[150, 2]
    own = spread(scene, q, qd + 1e-3 * rng.standard_normal(q.shape), 1e-3)
    assert own[:, 2:] == pytest.approx(1e-3, rel=0.1)
    assert np.isinf(spread(scene, q[:4], None, 1e-3)).all()


def bad_tables() -> list:
    t, wild = swing(), swing()
    wild["p"] = wild["p"] + np.arange(101) * 0.45 * 2 * np.pi
    back = {k: np.concatenate([v[:50], v[40:]]) for k, v in t.items()}
    lost = {k: v for k, v in t.items() if k != "k"}
    return [
        pytest.param(lost, UnknownNameError, "unknown column of a.csv 'k'", id="wrong column"),
        pytest.param(back, SamrlError, "times in a.csv should grow, but 0.49 s is followed by 0.4 s", id="time runs back"),
        pytest.param(wild, SamrlError, "which way it went cannot be told", id="too fast"),
        pytest.param({k: v * np.nan for k, v in t.items()}, SamrlError, "no two neighbouring rows", id="nothing but NaN"),
        pytest.param({**t, "t": t["t"] * 0}, SamrlError, "times in a.csv should grow", id="time stands still"),
    ]


@pytest.mark.parametrize(("table", "kind", "sentence"), bad_tables())
def test_bad_tables_are_refused_in_a_sentence(tmp_path: Path, table: dict, kind: type, sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        read_recordings([write(tmp_path / "a.csv", table)], HIP_KNEE)


def test_bad_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    headless = tmp_path / "headless.csv"
    headless.write_text("0,1,2\n1,1,2\n2,1,2\n")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("t,p,k\n0,1,2\n1,1\n")
    no_archive = tmp_path / "no.npz"
    no_archive.write_text("t,p,k")
    for path, sentence in (
        (headless, "first row should name the columns"), (ragged, "names 3 columns, but line 3 has 2"),
        (no_archive, "cannot be read as NPZ"), (tmp_path / "none.csv", "cannot be read as CSV"),
    ):  # fmt: skip
        with pytest.raises(SamrlError, match=sentence):
            read_recordings([path], HIP_KNEE)
    np.savez(tmp_path / "wide.npz", run=np.zeros((10, 4)))
    with pytest.raises(SamrlError, match="has 4 columns, and 'names' names 2"):
        read_recordings([tmp_path / "wide.npz"], make_columns({"time": 0.1, "angles": {"hip": "a"}, "names": ["a", "b"]}, "x"))


def test_bad_columns_are_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for text, sentence in (
        ("time: t\nangels: {hip: p}", "did you mean 'angles'"), ("angles: {hip: p}", "does not say what the time is"),
        ("time: t", "names no motion"), ("time: t\nangles: {hip: [a, b]}", "names 2 columns; it takes 1 or 4"),
        ("[1, 2", "cannot be read as YAML"), ("time: t\nangles: {hip: p}\nrates: {knee: v}", "unknown rates of 'knee'"),
        ("time: t\nmarkers: {m: {body: a, columns: [x, y]}}", "marker 'm' in .* has 2 columns along x, y, z"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(SamrlError, match=sentence):
            read_columns(file)


def test_what_a_scene_does_not_have_is_refused(tmp_path: Path) -> None:
    scene, params, _ = compile_mjcf(ARM, torch.float64)
    with pytest.raises(UnknownNameError, match="unknown joint 'hipp': did you mean 'hip'"):
        make_channels(scene, params, make_columns({"time": "t", "angles": {"hipp": "p"}}, "x"))
    with pytest.raises(SamrlError, match="is a hinge, which does not take four columns"):
        make_channels(scene, params, make_columns({"time": "t", "angles": {"hip": list("wxyz")}}, "x"))
    only = make_columns({"time": "t", "angles": {"hip": "p"}}, "x")
    recordings, _ = read_recordings([write(tmp_path / "a.csv", swing())], only)
    with pytest.raises(SamrlError, match="do not tell joint 'knee'"):
        cut(scene, recordings, make_channels(scene, params, only), length=0.2)
    recordings, _ = read_recordings([write(tmp_path / "a.csv", swing())], HIP_KNEE)
    channels = make_channels(scene, params, HIP_KNEE)
    for given, sentence in (
        ({"length": 0.2, "rate": 30.0}, "100 rows a second, which 30 does not divide"),
        ({"length": 2.0}, "no recording is as long as a window of 2 s; the longest has 1 s"),
        ({"length": 0.001}, "holds no sample"),
    ):  # fmt: skip
        with pytest.raises(SamrlError, match=sentence):
            cut(scene, recordings, channels, **given)


def test_columns_by_hand_are_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("time: t\nangles: {hip: p, knee: k}\nabsolute: true\nzero: 3.141592653589793\n")
    assert read_columns(file) == HIP_KNEE and isinstance(HIP_KNEE, Columns)


@pytest.mark.parametrize("name", ["single_pendulum", "double_pendulum", "triple_pendulum", "cube"])
def test_recordings_that_come_along_are_read(name: str) -> None:
    examples = Path(__file__).parents[2] / "examples" / "identify"
    scene, params, _ = compile_mjcf(examples / f"{name}.xml", torch.float64)
    columns = read_columns(examples / f"{name}.yaml")
    recordings, notes = read_recordings([examples / ("tosses.npz" if name == "cube" else f"{name}.npz")], columns)
    windows = cut(scene, recordings, make_channels(scene, params, columns), length=0.2, stride=0.5)
    assert not notes and len(windows) >= 2 * len(recordings) - (name == "cube") * len(recordings)
    assert bool(torch.isfinite(windows.target).all() and torch.isfinite(windows.qd).all())
