"""The report: one file, nothing from outside, every figure of the summary in it, and sentences for a broken run folder."""

import json
import re

import numpy as np
import pytest

from samrl.core import runs
from samrl.core.errors import RunFolderError
from samrl.report import figures, html

PLACE = {"world": "pybullet", "settings": "nominal", "variant": "full"}


def figure(metric, value, unit, count=30, **place):
    return {
        "metric": metric,
        **PLACE,
        **place,
        "value": value,
        "low": value / 2,
        "high": value * 1.5,
        "count": count,
        "unit": unit,
    }


def episode(seed, success):
    errors = {m: {"mm": 10.0 / (i + 1) + seed, "deg": 3.0 / (i + 1)} for i, m in enumerate(figures.MOMENTS)}
    return {
        "seed": seed, **PLACE, "success": success, "steps": 20 + seed, "simulated": True,
        "measures": {"lateral": 0.001, "depth": 0.016}, "errors": {"block": errors, "peg": errors}, "times": {},
    }  # fmt: skip


def summary():
    results = [
        figure("expert success", 0.95, "share", 20, world="twin", settings="random starts"),
        figure("success", 0.8, "share"),
    ]
    for moment in figures.MOMENTS:
        results += [figure(f"block mm {moment}", 12.34, "mm"), figure(f"block deg {moment}", 5.67, "deg")]
    times = [figure(f"{m}: {p}", 123.4, "ms") for m in ("control step", "first control step") for p in html.PARTS]
    times += [figure("stage 2_learn", 75.0, "s", 1, world="", settings="")]
    return {"task": "peg-insertion", "settings_hash": "0a1b2c3d", "results": results, "times": times}


@pytest.fixture
def folder(tmp_path):
    config = {
        "task": "peg-insertion",
        "world": "pybullet",
        "settings": "nominal",
        "preset": "quick",
        "seed": 0,
        "values": {"a": 1},
    }
    folder = runs.create_or_resume(tmp_path / "run", config, {"samrl": "0.1.0", "machine": {"cores": 2}}, resume=False)
    runs.write_json(folder.stage(runs.LEARN) / "history.json", {"expert": [3.0, 2.0, 1.0]})
    place = folder.stage(f"{runs.SIM2REAL}/frames")
    for seed, success in ((10_000, True), (10_001, False), (10_002, True)):
        folder.append_episode(episode(seed, success))
        frames = {
            f"{s}/{k}": np.full((8, 8, 3), s, np.uint8) for s in (0, 4, 9, 14, 19, 24) for k in ("world", "before", "after")
        }
        runs.write_arrays(place / f"pybullet-nominal-full-{seed}.npz", frames)
    runs.write_json(folder.path / runs.SUMMARY, summary())
    return folder


def test_everything_is_in_one_file(folder):
    text = html.write(folder.path).read_text()
    assert not re.search(r"(src|href)\s*=\s*['\"]?(?!['\"]?data:)", text) and "http" not in text and "@import" not in text
    words = (
        "80 %", "24 of 30", "40 % – 120 %", "19 of 20", "12.34", "5.67", "123.4", "1 min 15 s", "0a1b2c3d",
        "What is simulated", "A success: seed 10000", "A failure: seed 10001", "No camera and no robot were",
    )  # fmt: skip
    for word in words:
        assert word in text, word
    assert text.count("<img alt='world, step") == 8 and text.count("𝓜 after, step 24") == 2


def test_success_stands_beside_the_papers_and_against_real_steps(folder):
    made = summary()
    made["results"] += [figure("success", 0.5, "share", world="twin", variant=v) for v in ("no-residual", "no-viewpoint")]
    made["results"] += [figure("success", 0.6, "share", variant=v) for v in ("no-residual", "residual-200", "random-view")]
    runs.write_json(folder.path / runs.SUMMARY, made)
    runs.write_json(folder.path / runs.SIM2REAL / "practice.json", {"real steps": 798, "successes": [True, False]})
    page = html.write(folder.path).read_text()
    table = page.split("Table I")[1].split("</section>")[0]
    assert ".82" in table and ".64" in table and ".71" not in table
    steps = re.findall(r"<tr class=''><td>(\d+)</td>", page.split("The residual")[1].split("</section>")[0])
    assert steps == ["0", "200", "798"]


def test_the_same_run_gives_the_same_report(folder):
    assert html.page(folder) == html.page(folder)


def test_names_are_escaped(folder):
    value = summary()
    value["results"].append(figure("success", 1.0, "share", settings="<script>"))
    runs.write_json(folder.path / runs.SUMMARY, value)
    assert "<script>" not in html.page(folder)


def test_a_run_without_episodes_has_a_report(folder):
    (folder.path / runs.EPISODES).unlink()
    runs.write_json(folder.path / runs.SUMMARY, summary() | {"results": [figure("block mm before", 40.0, "mm", 3)], "times": []})
    text = html.page(folder)
    assert "No episodes yet" in text and "3 scenes" in text


def test_no_failure_is_said(folder):
    (folder.path / runs.EPISODES).unlink()
    folder.append_episode(episode(10_000, True))
    assert "None of 1 episodes was a failure" in html.page(folder)


def test_a_run_without_summary_is_a_sentence(folder):
    (folder.path / runs.SUMMARY).unlink()
    with pytest.raises(RunFolderError, match=r"no summary\.json yet"):
        html.write(folder.path)


@pytest.mark.parametrize("text", ["{", "{}", "[]", json.dumps({"results": [{}], "times": []})])
def test_a_broken_summary_is_a_sentence(folder, text):
    (folder.path / runs.SUMMARY).write_text(text)
    with pytest.raises(RunFolderError, match="--resume makes it again"):
        html.write(folder.path)


def test_at_most_four_columns_from_first_to_last():
    frames = {f"{s}/world": None for s in (0, 4, 9, 14, 19, 24, 29)}
    assert figures.pick(frames) == [0, 9, 19, 29]
    assert figures.pick({"0/world": None, "4/world": None}) == [0, 4]
