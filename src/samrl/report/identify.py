"""report.html of an identification's folder: what was found, how it came, and the motion it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from samrl.core.runs import REPORT, read_json, write_atomic
from samrl.report.figures import STYLE, data_uri, png
from samrl.report.html import PAGE
from samrl.report.style import CSS

COLORS = ("#2563eb", "#0f766e", "#b45309", "#7c3aed", "#be123c", "#0369a1", "#4d7c0f", "#a21caf", "#475569")
CURVES = (
    ("before", "#c3cad3", "-", "at first"),
    ("measured", "#1f2933", ".", "measured"),
    ("predicted", "#2563eb", "-", "found"),
)
TOLD = """<p class=soft>Intervals hold a number with a probability of {share:.0%}. They come from how much the windows disagree,
not from how many samples they have: residuals of one window belong together, and here variances are {inflation:.3g} times those
of independent residuals.</p>"""


def write(path: Path) -> Path:
    """Write the report of the identification in the folder at `path`, and its figures as files; returns where it is."""
    record = read_json(path / "estimate.json")
    pictures = {"estimates": estimates(record, _arrays(path / "history.npz")), "motion": motion(_arrays(path / "motion.npz"))}
    if (path / "mixture.npz").exists():
        learned = _arrays(path / "mixture.npz")
        pictures |= {"mixture": kernels(learned), "mixture-3d": clouds(learned)}
    for name, picture in pictures.items():
        write_atomic(path / f"figure-{name}.png", picture)
    write_atomic(path / REPORT, page(record, pictures).encode())
    return path / REPORT


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {k: file[k] for k in file.files}


def page(record: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The whole page."""
    asked = record["asked"]
    title = escape(f"samrl identify · {Path(asked['scene']).name}")
    parts = [
        f"<h1>{title}</h1><p class=soft>{escape(', '.join(Path(d).name for d in asked['data']))}: {record['windows']} windows of "
        f"{asked['window']:g} s; {escape(asked['method'])}, {escape(record['message'])} {record['seconds']:.0f} s.</p>",
        _section("What was found", _table(record["parameters"]) + TOLD.format(**record)),
        _section("What this motion cannot tell", _list(record["not told apart"], "Everything that was looked for shows in it.")),
        _section("Estimates over passes", _image(pictures["estimates"])),
        _section("Measured and predicted motion", _image(pictures["motion"])),
    ]
    if "mixture" in record:
        m = record["mixture"]
        text = f"<p>{m['kernels']} kernels, objective {escape(m['objective'])}, {m['epochs']} epochs, {m['seconds']:.0f} s.</p>"
        parts.append(_section("The mixture", text + _table(m["parameters"]) + _image(pictures["mixture"])))
        parts.append(_section("Its kernels in space", _image(pictures["mixture-3d"])))
    if "evaluation" in record:
        parts.append(_section("On other recordings", _evaluation(record["evaluation"])))
    if record["notes"]:
        parts.append(_section("About the recordings", _list(record["notes"], "")))
    return PAGE.format(title=title, css=CSS, body="".join(parts))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _image(picture: bytes) -> str:
    return f'<img class=figure alt="" src="{data_uri(picture)}">'


def _list(sentences: Sequence[str], otherwise: str) -> str:
    return f"<ul>{''.join(f'<li>{escape(s)}</li>' for s in sentences)}</ul>" if sentences else f"<p>{otherwise}</p>"


def _table(parameters: Sequence[Mapping[str, Any]]) -> str:
    keys = [k for k in ("name", "start", "value", "low", "high", "unit") if k in parameters[0]]
    head = "".join(f"<th{'' if k in ('name', 'unit') else ' class=n'}>{k}</th>" for k in keys)
    cells = lambda p: "".join(_cell(p[k]) for k in keys)  # noqa: E731
    rows = "".join(f"<tr>{cells(p)}</tr>" for p in parameters)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: str | float) -> str:
    return f"<td>{escape(value)}</td>" if isinstance(value, str) else f"<td class=n>{value:.5g}</td>"


def _evaluation(e: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(r['recording'])}</td><td class=n>{r['from']:.3g} s</td><td class=n>{r['error']:.5f}</td></tr>"
        for r in sorted(e["windows"], key=lambda r: -r["error"])[:20]
    )
    text = (
        f"<p>{len(e['windows'])} windows, pooled {e['pooled']:.5f}, median {e['median']:.5f}; starts as read, velocities "
        f"{escape(e['velocities'])}. The worst:</p>"
    )
    return text + f"<table><tr><th>recording</th><th class=n>from</th><th class=n>error</th></tr>{rows}</table>"


def estimates(record: Mapping[str, Any], history: Mapping[str, np.ndarray]) -> bytes:
    """Each number over the passes, and its interval at the end (Heiden et al., Fig. 1); a panel for each kind."""
    kinds: dict[str, list[int]] = {}
    for i, p in enumerate(record["parameters"]):
        kinds.setdefault(p["name"].split(":")[0], []).append(i)
    columns = min(3, len(kinds))
    rows = -(-len(kinds) // columns)
    values = history["values"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.3 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(kinds) :]:
            ax.set_visible(False)
        for ax, (kind, members) in zip(axes, kinds.items(), strict=False):
            for color, i in zip(COLORS * len(members), members, strict=False):
                p = record["parameters"][i]
                ax.plot(values[:, i], color=color, linewidth=1.6, label=p["name"].partition(":")[2] or kind)
                low, high = (max(min(v, values[:, i].max() * 3), -abs(values[:, i]).max() * 3) for v in (p["low"], p["high"]))
                ax.fill_between([len(values) - 1, len(values) * 1.08], low, high, color=color, alpha=0.25, linewidth=0)
            ax.set(title=f"{kind} [{record['parameters'][members[0]]['unit']}]".replace(" []", ""), xlabel="pass")
            ax.title.set_fontsize(9)
            ax.legend(frameon=False, fontsize=7)
        return png(figure)


def motion(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What was measured and what the model predicts, with the numbers found and with those the search began with: windows from
    the best explained to the worst."""
    names, widths = [str(n) for n in arrays["names"]], arrays["widths"].tolist()
    first = np.cumsum([0, *widths])
    shown = [i for i, w in enumerate(widths) if w <= 3][:3]
    windows = [str(w) for w in arrays["windows"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * len(windows) + 0.5, 1.8 * len(shown) + 0.6), layout="constrained")
        axes = figure.subplots(len(shown), len(windows), squeeze=False, sharex=True)
        for row, i in zip(axes, shown, strict=True):
            part = slice(first[i], first[i + 1])
            for n, ax in enumerate(row):
                for key, color, style, label in CURVES:
                    y, unit = _shown(arrays[key][n][:, part], widths[i])
                    t = arrays["time"][-len(y) :]
                    if widths[i] == 2:  # whole turns do not show in a heading
                        y = y - 360 * np.round((y[-1] - _shown(arrays["measured"][n][:, part], 2)[0][-1]) / 360)
                    ax.plot(t, y, style, color=color, linewidth=1.4, markersize=4, label=label)
            row[0].set_ylabel(f"{names[i]} [{unit}]")
        for ax, name in zip(axes[0], windows, strict=True):
            ax.set_title(name.rpartition(":")[2], fontsize=7)
        for ax in axes[-1]:
            ax.set_xlabel("time [s]")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return png(figure)


def _shown(z: np.ndarray, width: int) -> tuple[np.ndarray, str]:
    """What is drawn of a part (T, width): of a heading its angle, of a position its height."""
    if width == 2:
        return np.degrees(np.unwrap(np.arctan2(z[:, 1], z[:, 0]))), "degrees"
    return z[:, -1], "m" if width == 3 else ""


def kernels(learned: Mapping[str, np.ndarray], most: int = 6) -> bytes:
    """Loss, and each kernel's mean and standard deviation, over epochs; the numbers say how many windows had come (Fig. 2)."""
    labels = [str(label) for label in learned["labels"]][:most]
    means, spread, seen = learned["history_means"], learned["history_deviations"], learned["seen"]
    rows = -(-(len(labels) + 1) // 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.9 * rows), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False).ravel()
        axes[0].plot(learned["losses"] / seen, color="#475569", linewidth=1.2)
        axes[0].set(title="loss by windows that had come", xlabel="epoch")
        for ax, i in zip(axes[1:], range(len(labels)), strict=False):
            for k, color in zip(range(means.shape[1]), COLORS, strict=False):
                m, s = means[:, k, i], spread[:, k, i]
                if learned["logarithmic"][i]:
                    ax.fill_between(range(len(m)), np.exp(m - s), np.exp(m + s), color=color, alpha=0.2, linewidth=0)
                    ax.plot(np.exp(m), color=color, linewidth=1.3)
                else:
                    ax.fill_between(range(len(m)), m - s, m + s, color=color, alpha=0.2, linewidth=0)
                    ax.plot(m, color=color, linewidth=1.3)
            for epoch in [0, *(np.nonzero(np.diff(seen))[0] + 1).tolist()]:
                ax.axvline(epoch, color="#c3cad3", linewidth=0.8)
                ax.annotate(str(seen[epoch]), (epoch, 1), xycoords=("data", "axes fraction"), fontsize=6, va="bottom")
            ax.set(xlabel="epoch")
            ax.set_title(labels[i], fontsize=9, pad=10)
        for ax in axes[len(labels) + 1 :]:
            ax.set_visible(False)
        return png(figure)


def clouds(learned: Mapping[str, np.ndarray]) -> bytes:
    """The kernels' way through the space of the first three numbers, and where they end: ellipsoids of one and two deviations
    would be points beside the way, so the end is drawn by itself."""
    labels = [str(label) for label in learned["labels"]][:3]
    three = len(labels) == 3
    generator = np.random.default_rng(0)
    with matplotlib.rc_context({**STYLE, "axes.grid": True}):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        for n, title in enumerate(("the way of the kernels' means", "where they end: draws of each kernel")):
            ax = figure.add_subplot(1, 2, n + 1, **({"projection": "3d"} if three else {}))
            for k, color in zip(range(learned["means"].shape[0]), COLORS, strict=False):
                if n == 0:
                    x = learned["history_means"][:, k]
                else:
                    noise = generator.normal(size=(400, learned["means"].shape[1]))
                    x = learned["means"][k] + noise @ learned["trils"][k].T
                x = np.where(learned["logarithmic"], np.exp(x), x)[:, : len(labels)]
                y = x.T if len(labels) > 1 else np.stack([np.arange(len(x)), x[:, 0]])
                ax.plot(*y, "o" if n else "-", color=color, markersize=1.5, linewidth=1.2, alpha=0.4 if n else 0.9)
            ax.set_title(title, fontsize=9)
            for axis, label in zip("xyz", labels if len(labels) > 1 else ["epoch or draw", *labels], strict=False):
                getattr(ax, f"set_{axis}label")(label, fontsize=7)
            ax.tick_params(labelsize=6)
        return png(figure)
