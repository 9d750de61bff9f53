"""`samrl check` passes here, and notices a wrong gradient."""

import torch

from samrl import cli, selfcheck


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
