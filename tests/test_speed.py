"""`samrl bench` measures, and says in a sentence what it cannot."""

import re

import pytest

from samrl import cli, speed
from samrl.core.errors import SamrlError


def numbers(row: str) -> list[float]:
    return [float(x) for x in re.findall(r"[0-9.]+", row)]


def test_render_and_physics_give_a_row_for_each_count() -> None:
    title, *rows = speed.render(repeats=1)
    assert "128 x 128" in title and [numbers(r)[0] for r in rows] == [1, 32] and min(min(numbers(r)) for r in rows) > 0
    title, *rows = speed.physics(repeats=1, counts=(1, 8))
    assert "ms a second" in title and [numbers(r)[0] for r in rows] == [1, 8] and min(min(numbers(r)) for r in rows) > 0


def test_loop_tells_the_stages_of_a_step() -> None:
    title, *rows = speed.loop(steps=6)
    assert "medians of 4 steps" in title and len(rows) == 2
    assert all(re.search(r"update [1-9]\d*, action [1-9]\d*, prediction [1-9]", r) for r in rows)


@pytest.mark.parametrize("device", ["cuda:63", "gpu"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(SamrlError, match=f"--device {device}: PyTorch finds no such device"):
        speed.machine(device)


def test_what_cannot_be_measured(capsys) -> None:  # type: ignore[no-untyped-def]
    assert cli.main(["bench", "loops"]) == 2 and "did you mean 'loop'?" in capsys.readouterr().err
    assert cli.main(["bench", "loop", "--device", "cuda:0"]) == 2 and "the loop is measured on the cpu" in capsys.readouterr().err
