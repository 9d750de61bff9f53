"""report.html from a run folder: one file that needs nothing else. It draws what is on disk and computes nothing anew."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from samrl.core.errors import RunFolderError
from samrl.core.runs import (
    ENVIRONMENT,
    LEARN,
    REAL2SIM,
    REPORT,
    SIM2REAL,
    SUMMARY,
    RunFolder,
    frames_name,
    open_run,
    read_json,
    read_lines,
    write_atomic,
)
from samrl.report import figures
from samrl.report.style import CSS

Record = dict[str, Any]
Figure = dict[str, Any]
Place = tuple[str, str, str]  # world, settings and variant

PAGE = """<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{css}</style></head><body><main>{body}</main></body></html>
"""
SIMULATED = """<p>Everything. The “real world” of this run is a simulator ({worlds}): another engine with its own contact,
arm model, light and shadow, and with noise on images and depth, none of which the twin 𝓜 shares. No camera and no robot were
used. The world stands still while the controller computes, so the time of a control step is reported, not simulated.</p>"""
ERRORS_NOTE = """<p class=soft>Distance between estimated and true pose: median (95th percentile). Turns that do not show are
not counted: half a turn of a rectangular block, any turn of a cylinder about its axis. Of a chain: the mean distance along it,
and the angle of its end.</p>"""
VIEWS_NOTE = """<p class=soft>Share of episodes of the actor that succeed when it looks from one view for the whole episode; the
truth is hidden from it, and errors of looks are drawn as they were learned. Below: Q of views before the look, and the return
found there; the ring is what Q chose.</p>"""
PARTS = {
    "look": "look: the world renders its images",
    "update": "update: align the twin",
    "view": "viewpoint: choose where to look from",
    "policy": "policy: choose the action",
    "residual": "residual: correct it",
    "act": "act: the world moves",
    "step": "step: predict in the twin",
    "controller": "controller alone (viewpoint, update, policy, step)",
    "all": "all",
}
TABLE_ONE = {  # variant -> what the paper calls it, and its success (Lv et al., Table I)
    "full": ("with viewpoint", ".82"), "no-residual": ("with viewpoint", ".82"), "no-viewpoint": ("without viewpoint", ".64"),
    "fixed-view": ("fixed view", ".71"),
}  # fmt: skip
STAGE_NAMES = {
    REAL2SIM: "real2sim: aligning scenes",
    LEARN: "learn: expert, looks, actor, returns, Q, study",
    SIM2REAL: "sim2real: the control steps of all episodes",
}


def write(path: Path) -> Path:
    """Write the report of the run folder at `path`; returns where it is."""
    folder = open_run(path)
    if not (path / SUMMARY).exists():
        raise RunFolderError(f"{path} holds no {SUMMARY} yet, so there is nothing to report; go on with it by --resume.")
    try:
        text = page(folder)
    except (KeyError, IndexError, TypeError, AttributeError) as e:
        raise RunFolderError(f"{path} lacks what a report needs ({e!r}); samrl run --resume makes it again.") from e
    write_atomic(path / REPORT, text.encode())
    return path / REPORT


def page(folder: RunFolder) -> str:
    """The whole page."""
    summary, config = read_json(folder.path / SUMMARY), folder.config
    first = (config["world"], config["settings"], "full")
    own = lambda item: _place(item) != first  # noqa: E731  (the run's own world first)
    episodes, results, times = (sorted(x, key=own) for x in (folder.episodes(), summary["results"], summary["times"]))
    title = escape(f"samrl · {config['task']}")
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=soft>preset {escape(config['preset'])}, seed {config['seed']}; ",
        "the twin is updated at every step, the actor acts on what it renders, from views that Q chooses</p>",
        _simulated(episodes, config),
        _success(results, episodes),
        _table_one(results),
        _expert(folder, results),
        _views(folder, results),
        _practice(folder, results, first),
        _errors(episodes, results),
        _strip(folder, episodes, won=True),
        _strip(folder, episodes, won=False),
        _control_step(times),
        _stages(times),
        _made_by(folder, summary, config),
    ]
    return PAGE.format(title=title, css=CSS, body="".join(parts))


# Sections


def _simulated(episodes: list[Record], config: dict[str, Any]) -> str:
    if not all(e["simulated"] for e in episodes):
        return ""
    worlds = sorted({e["world"] for e in episodes}) or [config["world"]]
    return _section("What is simulated", SIMULATED.format(worlds=escape(", ".join(worlds))), "note")


def _success(results: list[Figure], episodes: list[Record]) -> str:
    less = {_place(f): f for f in results if f["metric"] == "success of full less this, same seeds"}
    rows = "".join(_success_row(f, less.get(_place(f))) for f in results if f["metric"] == "success")
    names = ["world", "settings", "variant", "success", "episodes", "95 % interval (Wilson)", "", "full less this, same seeds"]
    head = _row(names, "th")
    table = f"<table>{head}{rows}</table>" if rows else "<p class=soft>No episodes yet.</p>"
    return _section("Success", table + "".join(_failed(place, episodes) for place in _places(episodes)))


def _table_one(results: list[Figure]) -> str:
    """Beside what the paper says of its own simulation."""
    found = {_place(f)[2]: f for f in results if f["metric"] == "success" and _place(f)[:2] == ("twin", "nominal")}
    rows = [(what, paper, found[name]) for name, (what, paper) in TABLE_ONE.items() if name in found]
    if not rows:
        return ""
    head = _row(["", "variant", "paper", "here", "episodes", "95 % interval"], "th")
    cells = [[what, escape(f["variant"]), paper, f"<b>{f['value']:.2f}</b>", _counts(f), _interval(f)] for what, paper, f in rows]
    return _section("In the twin, beside the paper's Table I", f"<table>{head}{''.join(map(_row, cells))}</table>")


def _failed(place: Place, episodes: list[Record], most: int = 20) -> str:
    seeds = [str(e["seed"]) for e in episodes if _place(e) == place and not e["success"]]
    more = f" and {len(seeds) - most} more" if len(seeds) > most else ""
    return f"<p class=soft>Failed in {_named(place)}: seeds {', '.join(seeds[:most])}{more}.</p>" if seeds else ""


def _success_row(f: Figure, less: Figure | None) -> str:
    big = f"<span class=big>{_percent(f['value'])}</span>"
    than = (
        f"{_percent(less['value'])} ({_percent(less['low'])} – {_percent(less['high'])}), {less['count']} seeds" if less else ""
    )
    return _row([*map(escape, _place(f)), big, _counts(f), _range(f), _interval(f), f"<span class=soft>{than}</span>"])


def _expert(folder: RunFolder, results: list[Figure]) -> str:
    found = [f for f in results if f["metric"] == "expert success"]
    if not found:
        return ""
    f = found[0]
    curves = _image("losses over training", 760, figures.training_curves(read_json(folder.path / LEARN / "history.json")))
    text = (
        f"<p>The policy was trained by gradients through the twin. Told the true poses, it succeeds there from "
        f"<b>{_counts(f)}</b> random starts (95 % interval {_interval(f)}).</p>"
    )
    return _section("Learning, in the twin", text + curves)


def _views(folder: RunFolder, results: list[Figure]) -> str:
    """What the choice of a view is worth inside 𝓜."""
    own = [f for f in results if f["metric"].startswith("views: ")]
    if not own:
        return ""
    rows = _row(["", "", f"95 % interval, or 5th to 95th percentile; {own[0]['count']} states"], "th", numbers=2)
    for f in own:
        value = _percent(f["value"]) if f["unit"] == "share" else f"{f['value']:.2f}"
        span = f"{_percent(f['low'])} – {_percent(f['high'])}" if f["unit"] == "share" else f"{f['low']:.2f} – {f['high']:.2f}"
        rows += _row(
            [escape(f["metric"].removeprefix("views: ")), f"<b>{value}</b>", f"<span class=soft>{span}</span>"], numbers=2
        )
    maps = _image("Q and return over yaw and pitch", 760, figures.view_maps(read_lines(folder.path / LEARN / "states.jsonl")))
    return _section("What a view is worth, in the twin", VIEWS_NOTE + f"<table>{rows}</table>" + maps + _saliency(folder))


def _saliency(folder: RunFolder) -> str:
    path = folder.path / LEARN / "saliency.npz"
    if not path.exists():
        return ""
    with np.load(path, allow_pickle=False) as file:
        uri = figures.saliency(file["image"], file["strength"])
    note = "<p class=soft>What the actor sees at the start of four rehearsals, and which pixels move its answer.</p>"
    return f"<h3>What the actor looks at</h3>{note}" + _image("saliency", 760, uri)


def _practice(folder: RunFolder, results: list[Figure], own: Place) -> str:
    """What the residual cost, how its episodes ended, and success against real steps."""
    path = folder.path / SIM2REAL / "practice.json"
    if not path.exists():
        return ""
    told = read_json(path)
    won, count = sum(told["successes"]), len(told["successes"])
    text = f"<p>{told['real steps']} real steps (acts and looks) in {count} episodes, {won} of them successes.</p>"
    found = {f["variant"]: f for f in results if f["metric"] == "success" and _place(f)[:2] == own[:2]}
    steps = {v: int(v.split("-")[1]) for v in found if v.startswith("residual-")}
    steps |= {"no-residual": 0, "full": told["real steps"]}
    rows = [(n, found[v]) for v, n in sorted(steps.items(), key=lambda item: item[1]) if v in found]
    if len(rows) > 1:
        cells = [_row([str(n), _counts(f), _range(f), _interval(f)]) for n, f in rows]
        text += f"<table>{_row(['real steps', 'successes', '', '95 % interval'], 'th')}{''.join(cells)}</table>"
    return _section("The residual", text)


def _errors(episodes: list[Record], results: list[Figure]) -> str:
    """Tables and curves of the estimate's error, one for each world and settings."""
    own = [f for f in results if f["unit"] in ("mm", "deg")]
    blocks = [_errors_at(place, episodes, [f for f in own if _place(f) == place]) for place in _places(own)]
    return _section("Pose errors of the estimate", ERRORS_NOTE + "".join(blocks)) if blocks else ""


def _errors_at(place: Place, episodes: list[Record], results: list[Figure]) -> str:
    records = [e for e in episodes if _place(e) == place]
    what = f"{results[0]['count']} {'episodes' if records else 'scenes'}"
    found = {tuple(f["metric"].rsplit(" ", 2)): f for f in results}
    rows = _row(["", "", *(said for said, _ in figures.MOMENTS.values())], "th", numbers=3)
    for body, unit in dict.fromkeys(key[:2] for key in found):
        cells = [_median(found.get((body, unit, moment))) for moment in figures.MOMENTS]
        rows += _row([escape(body), dict(figures.ERRORS)[unit], *cells], numbers=3)
    curves = _image("error curves", 760, figures.error_curves(records)) if records else ""
    return f"<h3>{_named(place)}: {what}</h3><table>{rows}</table>{curves}"


def _strip(folder: RunFolder, episodes: list[Record], *, won: bool) -> str:
    """Pictures of the first success, or of the first failure: world, twin before and twin after the update."""
    what = "success" if won else "failure"
    for e in episodes:
        path = folder.path / SIM2REAL / "frames" / frames_name(e)
        if e["success"] == won and path.exists():
            return _section(f"A {what}: seed {e['seed']}, {_named(_place(e))}", _strip_note(e) + _strip_table(path))
    return _section(f"No {what}", f"<p class=soft>None of {len(episodes)} episodes was a {what}.</p>") if episodes else ""


def _strip_note(e: Record) -> str:
    said = ", ".join(f"{escape(k)} {v:.4f}" for k, v in e["measures"].items())
    word = "<b class=won>Success</b>" if e["success"] else "<b class=lost>Failure</b>"
    return (
        f"<p>{word} after {e['steps']} steps. The truth's last measures (m, and sines of angles): {said}. The world's "
        "pictures are what the controller saw; below them the twin, before and after that step's update.</p>"
    )


def _strip_table(path: Path) -> str:
    with np.load(path, allow_pickle=False) as file:
        frames = dict(file)
    steps = figures.pick(frames)
    rows = "<tr><th></th>" + "".join(f"<th class=top>step {s}</th>" for s in steps) + "</tr>"
    for key, name in (("world", "world"), ("before", "𝓜 before"), ("after", "𝓜 after")):
        pictures = [(f"{name}, step {s}", figures.picture(frames[f"{s}/{key}"])) for s in steps]
        cells = "".join(f"<td><img alt='{alt}' src='{uri}'></td>" for alt, uri in pictures)
        rows += f"<tr><th class=side>{name}</th>{cells}</tr>"
    return f"<table class=strip>{rows}</table>"


def _control_step(times: list[Figure]) -> str:
    """Where the time of a control step goes, for each world and settings."""
    own = [f for f in times if "control step" in f["metric"] or f["metric"].startswith("controller ")]
    blocks = [_control_step_at(place, [f for f in own if _place(f) == place]) for place in _places(own)]
    return _section("Where a control step goes", "".join(blocks)) if blocks else ""


def _control_step_at(place: Place, times: list[Figure]) -> str:
    later = _by_part(times, "control step: ")
    first = _by_part(times, "first control step: ")
    longest = max([f["value"] for f in later.values()], default=0.0) or 1.0
    rows = _row(["part", "", "median [ms]", "95th percentile", "an episode's first step"], "th", numbers=3)
    for name in first:
        cells = [f"{f[k]:.1f}" if f else "–" for f, k in ((later.get(name), "value"), (later.get(name), "high"))]
        width = 100 * later[name]["value"] / longest if name in later else 0.0
        bar = f"<div class=bar style='width:{width:.1f}%'></div>"
        cells = [PARTS.get(name, escape(name)), bar, *cells, f"{first[name]['value']:.1f}"]
        rows += _row(cells, kind="sum" if name in ("controller", "all") else "", numbers=3)
    for f in (f for f in times if f["metric"].startswith("controller ")):
        rows += _row([f["metric"], "", f"{f['value']:.1f}", f"{f['high']:.1f}", ""], kind="sum", numbers=3)
    count = later["all"]["count"] if "all" in later else 0
    return f"<h3>{_named(place)}: {count} steps</h3><table class=parts>{rows}</table>"


def _by_part(times: list[Figure], prefix: str) -> dict[str, Figure]:
    return {f["metric"].removeprefix(prefix): f for f in times if f["metric"].startswith(prefix)}


def _stages(times: list[Figure]) -> str:
    found = _by_part(times, "stage ")
    rows = "".join(_row([STAGE_NAMES.get(k, escape(k)), _clock(f["value"])], numbers=1) for k, f in found.items())
    return _section("Time of each stage", f"<table>{rows}</table>") if found else ""


def _made_by(folder: RunFolder, summary: dict[str, Any], config: dict[str, Any]) -> str:
    """Everything that made this run, to make it again."""
    said = {**_flat(config), **_flat(read_json(folder.path / ENVIRONMENT)), "settings_hash": summary["settings_hash"]}
    rows = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(str(v))}</code></dd>" for k, v in said.items())
    return _section("What made it", f"<dl>{rows}</dl>")


# Small parts


def _section(title: str, body: str, kind: str = "") -> str:
    return f"<section class='{kind}'><h2>{title}</h2>{body}</section>"


def _row(cells: list[str], tag: str = "td", *, kind: str = "", numbers: int = 0) -> str:
    """A table row; its last `numbers` cells stand to the right."""
    words = len(cells) - numbers
    tags = [tag if i < words else f"{tag} class=n" for i in range(len(cells))]
    return f"<tr class='{kind}'>" + "".join(f"<{t}>{cell}</{tag}>" for t, cell in zip(tags, cells, strict=True)) + "</tr>"


def _image(alt: str, width: int, uri: str) -> str:
    return f"<img class=figure style='max-width:{width}px' alt='{alt}' src='{uri}'>"


def _place(f: dict[str, Any]) -> Place:
    return f["world"], f["settings"], f["variant"]


def _places(figures: list[Figure]) -> list[Place]:
    return list(dict.fromkeys(_place(f) for f in figures))


def _named(place: Place) -> str:
    return escape(", ".join(place))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _counts(f: Figure) -> str:
    return f"{round(f['value'] * f['count'])} of {f['count']}"


def _interval(f: Figure) -> str:
    return f"<span class=soft>{_percent(f['low'])} – {_percent(f['high'])}</span>"


def _range(f: Figure) -> str:
    """The interval as a band, the value as a mark."""
    low, high, value = (100 * f[k] for k in ("low", "high", "value"))
    band = f"<i style='left:{low:.1f}%;width:{high - low:.1f}%'></i>"
    return f"<div class=range>{band}<b style='left:{value:.1f}%'></b></div>"


def _median(f: Figure | None) -> str:
    return f"<b>{f['value']:.2f}</b> <span class=soft>({f['high']:.2f})</span>" if f else "<span class=soft>–</span>"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s"


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    out: dict[str, Any] = {}
    for k, v in value.items():
        out |= _flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v}
    return out
