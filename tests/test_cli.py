"""The command: instant help, sentences for whatever is asked wrongly, and a way on after Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

from samrl import cli
from samrl.core.errors import SamrlError


def said(capsys):
    """What was said, one line."""
    text = capsys.readouterr().err.strip()
    assert "Traceback" not in text and "\n" not in text, text
    return text


@pytest.mark.parametrize("verb", [None, *cli.VERBS])
def test_help_is_instant_and_imports_no_torch(verb):
    arguments = [verb, "--help"] if verb else ["--help"]
    code = f"import sys; from samrl import cli; sys.argv = ['samrl', *{arguments}]\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'warp', 'matplotlib', 'mujoco', 'pybullet', 'numpy'} & set(sys.modules), sys.modules.keys()"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent < 0.5, "processor time, which other work on the machine does not change [s]"
    assert "usage: samrl" in done.stdout and (verb or "real2sim") in done.stdout


def test_no_command_is_help(capsys):
    with pytest.raises(SystemExit) as e:
        cli.main([])
    assert e.value.code == 0 and "usage: samrl" in capsys.readouterr().out


def test_a_reader_that_has_had_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "samrl.cli", "--help"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr


def test_version(capsys):
    import samrl

    assert cli.main(["--version"]) == 0 and capsys.readouterr().out.strip() == samrl.__version__


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["rum", "peg-insertion"], "unknown command 'rum': did you mean 'run'? commands are articulate, bench, check, evaluate"),
        (["run", "peg-insertoin"], "unknown task 'peg-insertoin': did you mean 'peg-insertion'?"),
        (["run", "peg-insertion", "--world", "mojoco"], "unknown world 'mojoco': did you mean 'mujoco'?"),
        (["run", "peg-insertion", "--settings", "stres-tight"], "did you mean 'stress-tight'?"),
        (["run", "peg-insertion", "--preset", "quik"], "unknown preset 'quik': did you mean 'quick'? presets are full"),
        (["real2sim", "peg-in"], "unknown task 'peg-in': did you mean 'peg-insertion'?"),
        (["run", "peg-insertion", "--workers", "0"], "--workers 0 is too low; the least is 1."),
        (["run", "peg-insertion", "--seed", "-1"], "--seed -1 is too low; the least is 0."),
        (["evaluate", "somewhere", "--seeds", "7"], "--seeds '7' is not a range of seeds; give A:B with A < B"),
        (["evaluate", "somewhere", "--seeds", "7:7"], "--seeds '7:7' is not a range of seeds"),
        (["evaluate", "somewhere", "--seeds", "a:b"], "--seeds 'a:b' is not a range of seeds"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_a_sentence(arguments, want, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    line = said(capsys)
    assert line.startswith("samrl: ") and want in line and line.endswith(".")
    assert not list(tmp_path.iterdir()), "a wrong name should leave nothing behind"


@pytest.mark.parametrize("arguments", [["evaluate", "nowhere", "--seeds", "0:2"], ["report", "nowhere"]])
def test_a_missing_run_is_a_sentence(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    assert "there is no run folder at nowhere" in said(capsys)


def test_resume_without_a_run_is_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "peg-insertion", "--resume"]) == 1
    assert "there is no run of peg-insertion in runs to resume" in said(capsys)


@pytest.mark.parametrize("arguments", [["run", "peg-insertion", "--worl", "x"], ["run"], ["run", "x", "--seed", "many"]])
def test_wrong_options_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(arguments)
    assert e.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_seeds():
    assert cli.parse_seeds("10000:10100") == range(10_000, 10_100)


@pytest.mark.parametrize("error", [SamrlError("all is lost."), KeyboardInterrupt()])
def test_interrupt_says_how_to_go_on(error, capsys, monkeypatch, tmp_path):
    from samrl import pipeline

    def fail(*_, **__):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", fail)
    if isinstance(error, SamrlError):
        assert cli.main(["run", "peg-insertion"]) == 1
        assert capsys.readouterr().err.endswith("samrl: all is lost.\n")
        return
    with pytest.raises(SystemExit) as e:
        cli.main(["run", "peg-insertion"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert e.value.code == 130
    assert "`samrl run peg-insertion --out runs/peg-insertion-001 --resume` goes on from there." in last


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_command_is_installed():
    done = subprocess.run([sys.executable, "-m", "samrl.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip()


def test_a_scheduler_that_ends_it_is_told_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as end, cli._resumable("samrl run --resume"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert end.value.code == 130 and "samrl run --resume" in capsys.readouterr().err
