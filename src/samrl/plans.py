"""What one run is asked to do: presets, plans, and plans read back from a run folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samrl.core import runs
from samrl.core.errors import RunFolderError, UnknownNameError
from samrl.core.runs import RunFolder
from samrl.learn.dagger import DaggerSettings
from samrl.learn.expert import TrainSettings
from samrl.learn.q_function import QSettings
from samrl.learn.study import StudySettings
from samrl.learn.trials import TrySettings
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings

TWIN = "twin"  # 𝓜 itself as the world
FIRST_SEED = 10_000  # lower seeds are for development
MASKS = ("world", "segmenter")
MARKS = (200, 800, 2000)  # real steps after which what the residual has learned so far is kept
VARIANTS = {
    "full": "views by Q, refined along ∂Q/∂camera; the actor; the residual where it was trained",
    "no-residual": "the same without the residual",
    "no-viewpoint": "the actor, from the view that the episode starts with",
    "fixed-view": "the actor, from the best of nine views on validation states",
    "fixed-trained": "from that view, an actor trained for it alone, as long as the other",
    "fixed-equal": "the same, its training ended where its loss is the other's, if it gets there",
    "random-view": "a new view drawn at random as often as the full way chooses one",
    "random-direction": "views by Q, refined along drawn directions instead of ∂Q/∂camera",
    "single-start": "the paper's ascent: from the present view along ∂Q/∂camera, no other candidates",
    "no-update": "the twin stays as it was first believed to be",
    "expert": "no actor and no choice of view: the expert's policy on the estimate",
    "expert-views": "views by Q, the expert's policy on the estimate",
    "black": "the actor is shown black images",
    "other": "the actor is shown an image of another episode",
    "segmenter": "the full way, with masks from the segmenter",
    **{f"residual-{n}": f"the full way, with the residual as it was after {n} real steps" for n in MARKS},
}


@dataclass(frozen=True)
class Preset:
    """starts: scenes aligned in stage 1; train: the expert's training, tries: that of one who learns by trying; trials:
    its random starts in the twin afterwards; looks: scenes from which four looks each are tried; dagger, q, study: of the
    learning in the twin; residual: real steps for the residual before the evaluation; episodes: in the world; asserts: the
    figures must hold what `_check_smoke` asks for."""

    starts: int
    train: TrainSettings
    tries: TrySettings
    trials: int
    looks: int
    dagger: DaggerSettings
    q: QSettings
    study: StudySettings
    episodes: int
    residual: int = 0
    asserts: bool = False


PRESETS = {
    "smoke": Preset(
        3, TrainSettings(iterations=120, batch=32), TrySettings(iterations=4, batch=64), 5, 8,
        DaggerSettings(iterations=12, updates=1),
        QSettings(batches=2, states=4, views=2, before=4, after=4, updates=20, share=0.0),
        StudySettings(states=1, views=4, draws=1), 2, asserts=True,
    ),
    "quick": Preset(
        5, TrainSettings(iterations=300, batch=64), TrySettings(iterations=260), 20, 150,
        DaggerSettings(iterations=900), QSettings(batches=25), StudySettings(states=12, views=16), 30,
    ),
    "full": Preset(
        20, TrainSettings(iterations=400, batch=64), TrySettings(iterations=400), 100, 500,
        DaggerSettings(iterations=2400), QSettings(batches=80), StudySettings(states=50), 70, residual=800,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What one run is: names and seed as asked for, where masks come from, the preset's values, and the hash of the frozen
    world settings."""

    task: str
    world: str
    settings: str
    preset: str
    seed: int
    masks: str
    values: Preset
    settings_hash: str

    def as_config(self) -> dict[str, Any]:
        return asdict(self)

    def seed_of(self, index: int) -> int:
        """A seed of its own for each unit of work in stage 2."""
        return int(np.random.default_rng([self.seed, 2, index]).integers(2**31))


def default_world() -> tuple[str, str]:
    """The world where none is asked for, and a sentence about it: empty, unless it is second best."""
    return worlds.default()


def check_task(task: str) -> None:
    """UnknownNameError for a task that is not there."""
    tasks.make(task)


def make_plan(
    task: str,
    *,
    world: str | None = None,
    settings: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    episodes: int | None = None,
    masks: str | None = None,
    residual: int | None = None,
) -> Plan:
    """A plan from what was given and defaults for the rest; UnknownNameError for a name that is not there."""
    check_task(task)
    world, settings, preset = world or default_world()[0], settings or "nominal", preset or "quick"
    check_name("world", world, [*worlds.names(), TWIN])
    check_name("setting", settings, world_settings.names())
    check_name("preset", preset, PRESETS)
    check_name("mask source", masks := masks or "world", MASKS)
    given = {k: v for k, v in (("episodes", episodes), ("residual", residual)) if v is not None}
    values = replace(PRESETS[preset], **given)  # type: ignore[arg-type]
    return Plan(task, world, settings, preset, seed or 0, masks, values, world_settings.settings_hash())


def check_name(kind: str, given: str, known: Collection[str]) -> None:
    if given not in known:
        raise UnknownNameError(kind, given, known)


def resumed_plan(path: Path, task: str, **given: Any) -> Plan:
    """The plan of the run at `path`, where something else was given with that instead; `run` refuses it if it differs. The
    plain plan if a kill came before there was one to read."""
    if not (path / runs.CONFIG).exists():
        return make_plan(task, **given)
    plan = read_plan(runs.open_run(path))
    stored = {k: getattr(plan, k) for k in ("world", "settings", "preset", "seed", "masks")}
    stored |= {k: getattr(plan.values, k) for k in ("episodes", "residual")}
    return make_plan(task, **(stored | {k: v for k, v in given.items() if v is not None}))


def read_plan(folder: RunFolder) -> Plan:
    """The plan in a run folder's config.yaml."""
    config = folder.config
    kinds = {"train": TrainSettings, "tries": TrySettings, "dagger": DaggerSettings, "q": QSettings, "study": StudySettings}
    try:
        values = dict(config["values"])
        for name, kind in kinds.items():
            values[name] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values[name].items()})
        plan = Plan(**{**config, "values": Preset(**values)})
    except (KeyError, TypeError, AttributeError) as e:
        raise RunFolderError(f"{folder.path} was made by another version of samrl ({e}); start anew in another folder.") from e
    if plan.settings_hash != (now := world_settings.settings_hash()):
        raise RunFolderError(
            f"{folder.path} was made with world settings {plan.settings_hash[:12]}, and they are {now[:12]} now: its "
            "figures would mix. Start anew in another folder."
        )
    return plan
