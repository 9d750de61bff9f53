"""What the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from samrl import cli, pipeline
from samrl.report import html

README = (Path(__file__).parents[2] / "README.md").read_text()


def commands():
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S)).replace("&&", "\n").splitlines()
    return [line.strip().removeprefix(".venv/bin/samrl ") for line in lines if line.strip().startswith(".venv/bin/samrl ")]


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, monkeypatch, tmp_path):
    """Names and options, without the work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(html, "write", lambda path: path)
    monkeypatch.setattr(pipeline, "run", lambda plan, path, **_: pipeline.RunFolder(path))
    monkeypatch.setattr(pipeline, "evaluate", lambda path, **_: pipeline.RunFolder(path))
    assert cli.main(shlex.split(command)) == 0


def test_every_command_is_listed():
    assert {verb for verb in cli.VERBS if f"`samrl {verb}" in README} == set(cli.VERBS)


def test_the_example_in_python_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})
    assert "tensor" in capsys.readouterr().out


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert targets and all((Path(__file__).parents[2] / t).exists() for t in targets)
