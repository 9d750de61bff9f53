"""`samrl check` passes here, and notices a wrong gradient; with --replay it finds where a rollout went out of bounds."""

import numpy as np
import pytest
import torch

from samrl import cli, selfcheck
from samrl.core import guard
from samrl.core.errors import NonFiniteError
from samrl.model.physics import Physics
from samrl.model.scene import State, compile_mjcf

PENDULUM = """<mujoco><worldbody>
  <body><joint name="shoulder" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 .5 0 0" size=".02"/>
  <body pos=".5 0 0"><joint name="elbow" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 .5 0 0" size=".02"/></body>
  </body></worldbody></mujoco>"""


def test_gradients_on_this_machine(capsys):
    assert cli.main(["check"]) == 0
    out = capsys.readouterr().out
    assert out.count("good ") == 4 and "BAD" not in out


class Wrong(torch.autograd.Function):
    """The identity, with a gradient that is one per cent too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 1.01 * g


def test_a_wrong_gradient_is_noticed(monkeypatch):
    from samrl.model.model import Model

    right = Model.step
    monkeypatch.setattr(Model, "step", lambda self, t, c, a: right(self, t, c, Wrong.apply(a)))
    assert not selfcheck._dynamics("motion in the air", None).good


def diverging(torque: float) -> tuple[Physics, tuple]:
    """A double pendulum in two environments, one of which gets a torque in the second of three periods."""
    scene, params, _ = compile_mjcf(PENDULUM)
    torques = torch.zeros(3, 2, 2)
    torques[1, 1, 1] = torque
    state = State(torch.zeros(2, 2), torch.zeros(2, 2))
    return Physics(scene, limit_damping=40.0), (params, state, torch.zeros(3, 2, 2), torques, 4)


def test_a_rollout_that_leaves_the_finite_numbers_can_be_replayed(tmp_path, capsys):
    physics, given = diverging(3e30)
    with (
        pytest.raises(NonFiniteError, match=r"period 1 of 3.*samrl check --replay .*\.npz") as error,
        guard.keep_replay(tmp_path),
    ):
        physics.rollout(*given)
    (path,) = tmp_path.iterdir()
    assert str(path) in str(error.value)
    assert cli.main(["check", "--replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "step 1 of 4 in period 1 of 3" in out and "'elbow' is the fastest, in environment 1" in out


def test_a_replay_says_what_was_not_finite_from_the_start(tmp_path, capsys):
    physics, given = diverging(float("nan"))
    with pytest.raises(NonFiniteError), guard.keep_replay(tmp_path):
        physics.rollout(*given)
    (path,) = tmp_path.iterdir()
    assert cli.main(["check", "--replay", str(path)]) == 1
    assert "torques holds 1 non-finite numbers of 12, the first at index (1, 1, 1)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"nothing", {"q": np.zeros(3)}])
def test_a_replay_of_something_else_is_an_error_in_a_sentence(tmp_path, capsys, content):
    path = tmp_path / "dump.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    elif content:
        path.write_bytes(content)
    assert cli.main(["check", "--replay", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
