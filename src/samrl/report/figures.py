"""Pictures of the report, as PNG within the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

Record = dict[str, Any]

MOMENTS = {
    "before": ("before the first update", "#9aa5b1"),
    "after": ("after it", "#2563eb"),
    "last": ("at the last step", "#0f766e"),
}
ERRORS = (("mm", "position error [mm]"), ("deg", "rotation error [degrees]"))
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#c3cad3", "axes.labelcolor": "#3d4754", "xtick.color": "#5b6673", "ytick.color": "#5b6673",
    "axes.grid": True, "grid.color": "#e6eaef", "axes.axisbelow": True,
}  # fmt: skip


def error_curves(records: Sequence[Record]) -> str:
    """For each body the share of episodes whose pose error is below x: position and rotation, at each moment."""
    bodies = list(records[0]["errors"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7 * 2, 2.3 * len(bodies)), layout="constrained")
        axes = figure.subplots(len(bodies), 2, squeeze=False, sharey=True)
        for row, body in zip(axes, bodies, strict=True):
            for ax, (unit, what) in zip(row, ERRORS, strict=True):
                for moment in [m for m in MOMENTS if m in records[0]["errors"][body]]:
                    _curve(ax, [r["errors"][body][moment][unit] for r in records], *MOMENTS[moment])
                ax.set(xscale="log", xlabel=f"{body}: {what}", ylim=(0, 1.02))
                ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
                ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                ax.xaxis.set_minor_formatter(NullFormatter())
            row[0].set_ylabel("share of episodes below")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        return data_uri(png(figure))


def _curve(ax: Any, values: Sequence[float], label: str, color: str) -> None:
    x = np.sort(np.maximum(values, 1e-2))
    y = np.arange(1, len(x) + 1) / len(x)
    ax.step(np.concatenate([x[:1], x]), np.concatenate([[0.0], y]), where="post", color=color, label=label, linewidth=1.8)


CURVES = {
    "expert": ("the expert: mean cost of state", "iteration"),
    "actor": ("the actor: loss on DAgger's samples", "iteration"),
    "q": ("Q: loss on held-out rows", "check"),
}


def training_curves(history: Mapping[str, Sequence[float]]) -> str:
    """What each network's training went down by."""
    known = [name for name in CURVES if history.get(name)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(known), 2.0), layout="constrained")
        for ax, name in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
            ax.plot(np.arange(1, len(history[name]) + 1), history[name], color="#2563eb", linewidth=1.2)
            ax.set(title=CURVES[name][0], xlabel=CURVES[name][1], yscale="linear" if name == "q" else "log")
            ax.title.set_fontsize(9)
        return data_uri(png(figure))


def view_maps(states: Sequence[Record], most: int = 4) -> str:
    """For a few states: Q, the return, and the actor's error, of each view that was tried, over yaw and pitch (SAM-RL Fig. 4);
    the view that Q chose is ringed."""
    shown = states[:most]
    every = (("Q", "q", 0.7), ("return", "return", 0.7), ("actor's error [mm]", "actor mm", 30.0))
    rows = [row for row in every if row[1] in shown[0]]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.3 * len(shown) + 0.6, 1.8 * len(rows) + 0.3), layout="constrained")
        axes = figure.subplots(len(rows), len(shown), squeeze=False, sharex=True, sharey=True)
        for line, (name, key, top) in zip(axes, rows, strict=True):
            for ax, state in zip(line, shown, strict=True):
                yaw, pitch = np.degrees(np.array(state["views"])[:, :2]).T
                values = np.asarray(state[key])
                values = values.mean(1) if values.ndim == 2 else values
                dots = ax.scatter(yaw, pitch, c=values, s=36, cmap="viridis", vmin=0, vmax=top)
                chosen = np.degrees(state["chosen"]["Q"]["view"][:2])
                ax.scatter(*chosen, s=90, facecolors="none", edgecolors="#dc2626", linewidths=1.4)
            line[0].set_ylabel("pitch [degrees]")
            figure.colorbar(dots, ax=list(line), label=name)
        for ax in axes[-1]:
            ax.set_xlabel("yaw [degrees]")
        return data_uri(png(figure))


def saliency(image: np.ndarray, strength: np.ndarray) -> str:
    """Crops (n, k, S, S, 3) that the actor sees, beside each what moves its answer (n, k, S, S)."""
    heat = matplotlib.colormaps["magma"](np.sqrt(strength))[..., :3]
    rows = np.stack([image.clip(0, 1), heat], 2)  # (n, k crops, 2, S, S, 3)
    strip = np.concatenate([np.concatenate(list(np.concatenate(list(row), 0)), 1) for row in rows], 0)
    return picture((np.kron(strip, np.ones((3, 3, 1))) * 255).astype(np.uint8))


def picture(pixels: np.ndarray) -> str:
    """An image (H, W, 3) of bytes, as it is."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def pick(frames: Mapping[str, np.ndarray], columns: int = 4) -> list[int]:
    """At most `columns` of the steps that have pictures, evenly spread, first and last among them."""
    steps = sorted({int(key.split("/")[0]) for key in frames})
    if len(steps) <= columns:
        return steps
    return [steps[round(i * (len(steps) - 1) / (columns - 1))] for i in range(columns)]


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()
