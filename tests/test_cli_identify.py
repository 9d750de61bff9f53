"""`samrl identify` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from samrl import cli
from samrl.identification import load_mixture
from samrl.model.scene import State, compile_mjcf
from samrl.real2sim.identify.motion import Motion

EXAMPLES = Path(__file__).parents[1] / "examples" / "identify"
SCENE = """<mujoco><worldbody><body name="rod"><joint name="pivot" axis="0 1 0" damping="{k}"/>
  <inertial pos="0 0 -{a}" mass=".2" diaginertia="1e-3 1e-3 1e-3"/></body></worldbody></mujoco>"""


@pytest.fixture
def swing(tmp_path: Path) -> tuple[Path, Path]:
    """A scene whose numbers are off, and three seconds of motion with the right ones, in degrees."""
    scene, params, _ = compile_mjcf(SCENE.format(a=0.15, k=2e-3), torch.float64)
    start = State(torch.tensor([1.2], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    q = Motion(scene, period=0.01, substep=1e-3, smooth=True).roll(params, start, 300).q[:, 0].numpy()
    rng = np.random.default_rng(0)
    rows = [f"{0.01 * (i + 1):.2f},{np.degrees(v) + rng.normal(0, 0.02):.5f}" for i, v in enumerate(q)]
    (tmp_path / "swing.csv").write_text("\n".join(["t,angle", *rows]))
    (tmp_path / "rod.xml").write_text(SCENE.format(a=0.11, k=1e-3))
    return tmp_path / "rod.xml", tmp_path / "swing.csv"


def test_from_a_csv_to_a_report(swing: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, data = swing
    out = tmp_path / "found"
    columns = "--time t --angles pivot=angle --degrees"
    arguments = f"identify {scene} {data} {columns} --fit com-distances damping --rate 50 --window .5"
    extra = f"--mixture 2 --online .3 --evaluate {data} --off .3 --epochs 40 --out {out}"
    assert cli.main(f"{arguments} {extra}".split()) == 0
    said = capsys.readouterr().err
    record = json.loads((out / "estimate.json").read_text())
    a, k = record["parameters"]
    assert a["name"] == "com-distances:rod" and a["value"] == pytest.approx(0.15, rel=0.02)
    assert k["value"] == pytest.approx(2e-3, rel=0.1) and k["low"] < k["value"] < k["high"]
    assert "com-distances:rod" in said and "error of 5 windows: pooled" in said
    assert len(record["evaluation"]["windows"]) == 5 and record["evaluation"]["pooled"] < 0.01
    found = compile_mjcf(out / "identified.xml", torch.float64)[1]
    assert float(found.com[1, 2]) == pytest.approx(-a["value"], rel=1e-4)
    mixture = load_mixture(out)
    assert mixture.means.shape == (2, 2) and float(mixture.mean()[0].exp()) == pytest.approx(a["value"], rel=0.05)
    names = {"figure-estimates.png", "figure-motion.png", "figure-mixture.png", "figure-mixture-3d.png", "report.html"}
    assert names <= {p.name for p in out.iterdir()}
    assert "com-distances:rod" in (out / "report.html").read_text()
    assert cli.main(f"{arguments} --out {out}".split()) == 1 and "holds an estimate already" in capsys.readouterr().err


def test_tosses_of_a_real_cube(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real data: windows from contact, friction between those that simulators are set to by default and by hand."""
    scene, out = EXAMPLES / "cube.xml", tmp_path / "found"
    words = "--fit friction:cube contact-damping:cube --begin contact --window .3 --method adam --epochs 6"
    files = f"{EXAMPLES / 'tosses.npz'} --columns {EXAMPLES / 'cube.yaml'} --evaluate {EXAMPLES / 'tosses_more.npz'}"
    assert cli.main(f"identify {scene} {files} {words} --out {out}".split()) == 0
    record = json.loads((out / "estimate.json").read_text())
    assert record["windows"] == 12 and record["evaluation"]["pooled"] < 0.03
    assert 0.05 < record["parameters"][0]["value"] < 0.2
    assert (out / "report.html").exists() and "error of 6 windows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("--fit frictions --time t --angles pivot=angle", "did you mean 'friction'"),
        ("--fit masses:rods --time t --angles pivot=angle", "unknown 'masses' of 'rods': did you mean 'rod'"),
        ("--fit masses --time t --angles pivot=angel", "did you mean 'angle'"),
        ("--fit masses --time t --angles pivott=angle", "unknown joint 'pivott'"),
        ("--fit masses --time t --angles pivot", "should be JOINT=COLUMN"),
        ("--fit masses", "what the columns are was not said"),
        ("--fit masses --columns none.yaml", "cannot be read"),
        ("--fit masses --time t --angles pivot=angle --degrees --begin contact", "no free joint"),
        ("--fit masses --time t --angles pivot=angle --begin contcat", "unknown beginning 'contcat': did you mean 'contact'"),
        ("--fit masses --time t --angles pivot=angle --window 0", "--window 0 cannot be; it takes a number above zero"),
        ("--fit masses --time t --angles pivot=angle --starts guess", "unknown way to 'guess'"),
        ("--fit masses --time t --angles pivot=angle --degrees --off 1.5", "cannot start 1.5 of themselves off"),
        ("--fit masses --time t --angles pivot=angle --degrees --mixture 2 --objective best", "unknown objective 'best'"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_a_sentence(
    swing: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, sentence: str
) -> None:
    assert cli.main(f"identify {swing[0]} {swing[1]} {change} --out {tmp_path / 'out'}".split()) in (1, 2)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out" / "estimate.json").exists()
