"""The run folder: whole files or none, torn lines dropped, and sentences for everything that can be wrong with it."""

import errno
import json
import os

import numpy as np
import pytest

from samrl.core import runs
from samrl.core.errors import NonFiniteError, RunFolderError

CONFIG = {"task": "peg-insertion", "seed": 3, "values": {"friction": (0.1, 0.5)}}


def episode(seed, world="pybullet"):
    return {"seed": seed, "world": world, "settings": "nominal", "variant": "full", "success": True}


@pytest.fixture
def folder(tmp_path):
    return runs.create_or_resume(tmp_path / "run", CONFIG, {}, resume=False)


@pytest.fixture
def full_disk(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def switch(on):
        monkeypatch.setattr(os, "fsync", refuse) if on else monkeypatch.undo()

    return switch


def test_episodes_are_ordered_whatever_order_they_ended_in(folder):
    for seed, world in ((7, "pybullet"), (5, "pybullet"), (9, "mujoco")):
        folder.append_episode(episode(seed, world))
    assert [e["seed"] for e in folder.episodes()] == [9, 5, 7]
    assert folder.done_seeds("pybullet", "nominal", "full") == {5, 7}


@pytest.mark.parametrize("torn", [b'{"seed": 2, "wor', b"\xff\xfe", b'{"seed": 2}'])
def test_a_torn_last_line_is_dropped_and_written_over(folder, torn):
    folder.append_episode(episode(1))
    with open(folder.path / runs.EPISODES, "ab") as file:
        file.write(torn)
    assert [e["seed"] for e in folder.episodes()] == [1]
    folder.append_episode(episode(3))
    assert [e["seed"] for e in folder.episodes()] == [1, 3]


def test_a_broken_line_in_the_middle_is_named(folder):
    (folder.path / runs.EPISODES).write_text('{"seed": 1\n' + json.dumps(episode(2)) + "\n")
    with pytest.raises(RunFolderError, match=r"line 1 of .* delete that line"):
        folder.episodes()


def test_a_full_disk_is_a_sentence_and_loses_nothing(folder, full_disk):
    folder.append_episode(episode(1))
    runs.write_json(folder.path / runs.SUMMARY, {"value": 1})
    full_disk(True)
    for write in (
        lambda: folder.append_episode(episode(2)),
        lambda: runs.write_json(folder.path / runs.SUMMARY, {"value": 2}),
    ):
        with pytest.raises(RunFolderError, match=r"the disk is full: .* with --resume\."):
            write()
    full_disk(False)
    assert [e["seed"] for e in folder.episodes()] == [1]
    assert runs.read_json(folder.path / runs.SUMMARY) == {"value": 1}
    assert not list(folder.path.glob("*.tmp"))
    folder.append_episode(episode(2))
    assert [e["seed"] for e in folder.episodes()] == [1, 2]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_device_that_is_full_is_a_sentence():
    from pathlib import Path

    path = Path("/dev/full")
    with pytest.raises(RunFolderError, match="the disk is full"), runs._disk(path), open(path, "w") as file:
        file.write("x")


def test_numbers_that_are_not_finite_are_not_written(folder):
    with pytest.raises(NonFiniteError, match="nothing was written"):
        folder.append_episode(episode(1) | {"error": float("nan")})
    assert folder.episodes() == []


def test_resume_wants_the_same_configuration(folder):
    found = runs.create_or_resume(folder.path, CONFIG, {}, resume=True).config
    assert found == CONFIG | {"values": {"friction": [0.1, 0.5]}}
    with pytest.raises(RunFolderError, match="already holds a run; add --resume"):
        runs.create_or_resume(folder.path, CONFIG, {}, resume=False)
    with pytest.raises(RunFolderError, match="seed is 3 there and 4 here"):
        runs.create_or_resume(folder.path, CONFIG | {"seed": 4}, {}, resume=True)


def test_a_creation_that_was_killed_is_begun_again(tmp_path):
    (tmp_path / runs.ENVIRONMENT).write_text("{}")
    (tmp_path / (runs.CONFIG + ".tmp")).write_text("ta")
    assert runs.create_or_resume(tmp_path, CONFIG, {}, resume=True).config["seed"] == 3


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match=r"other files \(thesis.tex\)"):
        runs.create_or_resume(tmp_path, CONFIG, {}, resume=False)


@pytest.mark.parametrize("text", ["seed: [", "just words", "\x00"])
def test_a_broken_config_is_a_sentence(folder, text):
    (folder.path / runs.CONFIG).write_text(text)
    with pytest.raises(RunFolderError, match=r"config.yaml .* start anew"):
        runs.open_run(folder.path)


def test_a_missing_run_is_a_sentence(tmp_path):
    with pytest.raises(RunFolderError, match="there is no run folder"):
        runs.open_run(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"has no config\.yaml"):
        runs.open_run(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written|is a file"):
        runs.create_or_resume(tmp_path / "file" / "run", CONFIG, {}, resume=False)


def test_two_writers_are_one_too_many(folder):
    with folder.lock(), pytest.raises(RunFolderError, match="another samrl is writing"), folder.lock():
        pass
    with folder.lock():
        pass


def test_stages_are_done_when_marked(folder):
    assert not folder.is_done(runs.LEARN)
    folder.finish(runs.LEARN, 12.5)
    assert folder.is_done(runs.LEARN) and folder.seconds(runs.LEARN) == 12.5


def test_numbered_folders(tmp_path):
    assert runs.next_path(tmp_path, "task").name == "task-001"
    with pytest.raises(RunFolderError, match="no run of task"):
        runs.latest_path(tmp_path, "task")
    for name in ("task-002", "task-010", "task-notes"):
        (tmp_path / name).mkdir()
    assert runs.next_path(tmp_path, "task").name == "task-011"
    assert runs.latest_path(tmp_path, "task").name == "task-010"


def test_arrays_survive(tmp_path):
    runs.write_arrays(tmp_path / "a.npz", {"0/world": np.arange(6, dtype=np.uint8)})
    with np.load(tmp_path / "a.npz") as file:
        assert file["0/world"].tolist() == list(range(6))


def test_the_environment_names_versions_and_machine():
    e = runs.environment(settings_hash="abc")
    assert e["versions"]["numpy"] == np.__version__ and e["machine"]["cores"] >= 1 and e["settings_hash"] == "abc"
