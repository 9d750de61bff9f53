"""The guard writes down what replays a non-finite number before it stops the run."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from samrl.core import guard
from samrl.core.errors import NonFiniteError


@dataclass
class State:
    q: torch.Tensor


def test_finite_numbers_pass(tmp_path):
    guard.check("q", torch.ones(3), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_nan_leaves_a_dump_that_holds_what_was_there(tmp_path):
    twin = {"state": State(torch.arange(3.0, requires_grad=True)), "actions": [np.ones(2), np.zeros(2)], "seed": 7}
    with pytest.raises(NonFiniteError, match=r"q̇ holds 1 non-finite .* What replays it is in .*\.npz"):
        guard.check("q̇", torch.tensor([0.0, float("nan")]), tmp_path, twin)
    (path,) = tmp_path.iterdir()
    found = guard.load(path)
    assert set(found) == {"state.q", "actions.0", "actions.1", "seed"}
    assert found["state.q"].tolist() == [0.0, 1.0, 2.0] and int(found["seed"]) == 7
