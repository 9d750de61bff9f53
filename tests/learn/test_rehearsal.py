"""Rehearsals with a hidden truth, what the actor sees in them, and views ranked by Q."""

import pytest
import torch

from samrl.learn import dagger, q_function, returns, sensing
from samrl.learn.actor import FEATURES, Actor, Eye, Sight, about
from samrl.learn.dagger import DaggerSettings
from samrl.learn.expert import Expert
from samrl.learn.q_function import Prospect, QFunction, QSettings
from samrl.learn.rehearsal import Rehearsal, Shell, believed
from samrl.learn.returns import Rows, collect, imagine
from samrl.learn.sensing import Sensing
from samrl.learn.study import NINE, StudySettings, best_of_nine, gradient_cosine, saliency, situation, study
from samrl.learn.viewpoint import Viewpoint, ViewSettings
from samrl.model.placement import unit_poses
from samrl.model.scene import Twin
from samrl.model.units import between
from samrl.sim2real.control_loop import make_model
from samrl.tasks import registry

TASK = registry.make("peg-insertion")
SHELL = Shell(TASK.look_at(), (-1.4, 1.4), (0.4, 1.2), (0.3, 0.5))


@pytest.fixture(scope="module")
def stage() -> Rehearsal:
    generator = torch.Generator().manual_seed(0)
    return Rehearsal(Expert(make_model(TASK), TASK), Sensing(2, generator), SHELL, 8, generator)


def test_views_and_cameras_are_each_others_inverse() -> None:
    view = SHELL.draw(16, torch.Generator().manual_seed(1)).double()
    assert torch.allclose(SHELL.view(SHELL.pose(view)), view, atol=1e-9)


def test_a_look_brings_what_it_shows_near_the_truth_and_nothing_else(stage: Rehearsal) -> None:
    true, believed = (stage.model.poses(t) for t in (stage.truth, stage.estimated()))
    for b, body in enumerate(stage.model.updatable):
        off = (true[body][:, :3, 3] - believed[body][:, :3, 3]).norm(dim=-1)
        shown = stage.shown[:, b]
        assert bool((off[shown] < 0.006).all()) and bool((off[~shown] > 0.0005).all())
    assert bool(stage.shown.any()) and not bool(stage.shown.all())


def test_looks_bring_a_thread_near_the_truth_too() -> None:
    task = registry.make("needle-threading")
    model, generator = make_model(task), torch.Generator().manual_seed(0)
    rehearsal = Rehearsal(Expert(model, task), Sensing(2, generator), Shell.of(task), 8, generator)
    for _ in range(4):
        rehearsal.move(rehearsal.shell.draw(8, generator), torch.ones(8, dtype=torch.bool))
    assert bool(rehearsal.shown.all())
    off = [
        (a - b).norm(dim=-1)
        for a, b in zip(rehearsal.errors(rehearsal.truth), rehearsal.errors(rehearsal.estimated()), strict=True)
    ]
    assert float(off[0].median()) < 0.0015 and float(off[0].max()) < 0.01


def test_sensing_learns_the_size_of_errors() -> None:
    g = torch.Generator().manual_seed(2)
    x = torch.rand(600, 1, 4, generator=g)
    error = torch.randn(600, 1, 6, generator=g) * torch.where(x[..., :1] > 0.5, 1e-2, 1e-4)
    net, _ = sensing.fit(x, error, torch.ones(600, 1, dtype=torch.bool), 0, steps=300)
    with torch.no_grad():
        scale = net(torch.tensor([[[0.9, 0.5, 0.5, 0.5]], [[0.1, 0.5, 0.5, 0.5]]]))
    assert float((scale[0] / scale[1]).min()) > 30


def test_a_body_that_has_fallen_far_leaves_beliefs_finite() -> None:
    """It falls through nothing for the rest of an episode, tens of metres away from all that looks were tried on."""
    generator = torch.Generator().manual_seed(0)
    stage = Rehearsal(Expert(make_model(TASK), TASK), Sensing(2, generator), SHELL, 4, generator)
    x = torch.rand(400, 2, 4, generator=generator)
    error = torch.randn(400, 2, 6, generator=generator) * (8 * x[..., 1:2]).exp() * 1e-4  # which grows with the distance
    stage.sensing, _ = sensing.fit(x, error, torch.ones(400, 2, dtype=torch.bool), 0, steps=400)
    block = stage.model.updatable.index("block")
    far = stage._in_parents(stage.truth).clone()
    far[:, block, :3, 3] += torch.tensor([0.3, 0.0, -60.0])
    stage.truth = believed(stage.model, stage.truth, far)
    before = stage.belief.clone()
    stage.move(SHELL.draw(4, generator), torch.ones(4, dtype=torch.bool))
    assert bool(stage.belief.isfinite().all()) and bool(stage.sure.isfinite().all())
    assert torch.allclose(stage.belief[:, block], before[:, block], atol=1e-5)  # nobody saw it go


def test_ranked_views_are_no_worse_than_those_drawn(stage: Rehearsal) -> None:
    eye, generator = Eye(stage.model, TASK), torch.Generator().manual_seed(3)
    actor = Actor(stage.expert.policy, generator, TASK.crops).eval()
    q = QFunction(2, generator).eval()
    chooser = Viewpoint(q, actor, eye, SHELL, ViewSettings(candidates=6, refined=2, steps=2, travel=0.0))
    at = situation(stage)
    now = SHELL.draw(1, generator)[0]
    view, score = chooser.ranked(at, now, generator)
    assert view.shape == (6, 3) and bool((score[:-1] >= score[1:]).all())
    plain = Viewpoint(q, actor, eye, SHELL, ViewSettings(candidates=6, refined=0, steps=2, travel=0.0))
    again, before = plain.ranked(at, now, torch.Generator().manual_seed(4))
    refined, after = plain.refine(plain.common(at), now, again, *plain.value(plain.common(at), now, again), generator)
    assert bool((after >= before - 1e-6).all()) and refined.shape == again.shape


def test_environments_taken_are_the_same_and_go_their_own_way(stage: Rehearsal) -> None:
    some = stage.take(torch.tensor([3, 3, 5]))
    assert torch.equal(some.errors(some.truth)[0], stage.errors(stage.truth)[0][[3, 3, 5]])
    before = stage.truth.state.q.clone()
    some.act(torch.tensor([[0.01, 0, 0, 0, 0, 0]]).repeat(3, 1))
    assert torch.equal(stage.truth.state.q, before) and torch.equal(some.truth.state.q[0], some.truth.state.q[1])
    assert not torch.equal(some.truth.state.q[0], before[3])


def test_a_share_of_looks_is_the_real_updates(stage: Rehearsal) -> None:
    asked: list[torch.Tensor] = []

    def update(truth: Twin, X_WC: torch.Tensor) -> torch.Tensor:
        asked.append(X_WC)
        return torch.cat([unit_poses(stage.model.scene, truth, u) for u in stage.model.units])  # it finds the truth

    exact = Rehearsal(stage.expert, stage.sensing, SHELL, 6, torch.Generator().manual_seed(1), update, share=1.0)
    off = torch.stack(
        [(a - b).norm(dim=-1) for a, b in zip(exact.errors(exact.truth), exact.errors(exact.estimated()), strict=True)]
    )
    seen = exact.shown.all(-1)
    assert len(asked) == 6 and bool(seen.any())
    assert float(off[0, seen].max()) < 1e-4 and float(off[1, seen].max()) < 2e-3  # what was known of turns before weighs a little


@pytest.fixture(scope="module")
def learners(stage: Rehearsal):
    generator = torch.Generator().manual_seed(5)
    eye = Eye(stage.model, TASK)
    actor = Actor(stage.expert.policy, generator, TASK.crops).eval()
    return eye, actor, QFunction(2, generator).eval()


def test_memory_keeps_the_last_samples_and_draws_half_of_them_near() -> None:
    memory, g = dagger.Memory(12), torch.Generator().manual_seed(0)
    for i in range(5):  # four samples each, one of them near
        tip = torch.tensor([[0.01], [0.2], [0.3], [0.4]]) * torch.tensor([1.0, 0.0, 0.0])
        pose, R_WC, lead = torch.zeros(4, 12), torch.eye(3).expand(4, 3, 3), torch.zeros(4, 6)
        rest = (torch.zeros(4, 3), torch.eye(4).expand(4, 4, 4), lead, torch.zeros(4, 7), lead)
        memory.add(Sight(torch.full((4, 2, 2, 2, 5), i), pose, R_WC, *rest), tip)
    sight, (tip,) = memory.draw(400, 0.03, g)
    assert memory.count == 12 and float(sight.images.min()) == 2 and float(sight.images.max()) == 4
    assert 0.4 < float((tip.norm(dim=-1) < 0.03).float().mean()) < 0.6


def test_places_are_learned_as_they_are_drawn_and_actions_as_they_should_be(stage: Rehearsal, learners) -> None:
    eye, actor, _ = learners
    some, memory = stage.take(torch.arange(4)), dagger.Memory(4)
    with torch.no_grad():
        middle = eye.place(some.estimated(), some.command).tip
        drawn, true = (about(some.landmarks(twin), middle) for twin in (some.estimated(), some.truth))
        wanted = some.label()
    dagger._collect(actor, eye, some, memory, DaggerSettings(), 0)
    *_, marks, action = memory.kept
    assert torch.allclose(marks, drawn, atol=1e-6) and not torch.allclose(marks, true, atol=1e-4)
    assert torch.allclose(action, wanted, atol=1e-6)


def test_training_ends_where_it_is_enough(stage: Rehearsal, learners, monkeypatch) -> None:
    eye = learners[0]
    monkeypatch.setattr(dagger, "SMOOTH", 2)
    settings = DaggerSettings(iterations=12, updates=1, batch=4, capacity=4, enough=1e9)
    learner = Actor(stage.expert.policy, torch.Generator().manual_seed(1), TASK.crops)
    losses = dagger.train(learner, eye, stage.take(torch.arange(4)), settings)
    assert len(losses) == 6 + 1 + 2 and not learner.training


def test_rows_hold_what_was_tried(stage: Rehearsal, learners) -> None:
    eye, actor, _ = learners
    rows = collect(stage.take(torch.arange(4)), actor, eye, QSettings(before=3, after=2, views=2))
    tried = rows.value.isfinite()
    assert int(tried.sum()) == 8 and rows.belief.shape[1:] == (2, 4, 4) and rows.precision.shape[1:] == (5,)
    expected = imagine(rows, actor, eye, SHELL, torch.Generator().manual_seed(0))
    assert len(expected.features) == len(rows.value) and bool((expected.action.abs() <= 1).all())


def test_what_q_learns_from_is_what_it_is_asked_with(stage: Rehearsal, learners, monkeypatch) -> None:
    eye, actor, q = learners
    monkeypatch.setattr(returns, "JITTER", (0.0, 0.0, 0.0))
    now, view = stage.view[0], SHELL.draw(1, torch.Generator().manual_seed(2))
    rows = Rows.of(stage.take(torch.tensor([0])), view, torch.ones(1), torch.zeros(1, 5))
    expected = imagine(rows, actor, eye, SHELL, torch.Generator())
    with torch.no_grad():
        chooser = Viewpoint(q, actor, eye, SHELL)
        value, action = chooser.value(chooser.common(situation(stage)), now, view)
        assert torch.allclose(q(expected).mean(-1), value) and torch.allclose(expected.action * actor.policy.limits, action)


def test_q_is_the_same_again_whatever_else_was_drawn(stage: Rehearsal, learners) -> None:
    eye, actor, _ = learners
    view = SHELL.draw(stage.count, torch.Generator().manual_seed(2))
    rows = Rows.of(stage, view, torch.rand(stage.count, generator=torch.Generator().manual_seed(3)), torch.zeros(stage.count, 5))
    expected = imagine(rows, actor, eye, SHELL, torch.Generator().manual_seed(4))
    fitted = []
    for _ in range(2):
        torch.rand(7)
        generator = torch.Generator().manual_seed(5)
        fitted.append(QFunction(2, generator))
        q_function.fit(fitted[-1], expected, rows.value, rows.precision, QSettings(updates=5, batch=8), generator)
    assert all(torch.equal(a, b) for a, b in zip(*(q.state_dict().values() for q in fitted), strict=True))


def test_more_than_q_has_learned_of_counts_no_more() -> None:
    q = QFunction(2, torch.Generator().manual_seed(0)).eval()
    n = q.center.numel() - FEATURES - 6
    known = torch.rand(20, n, generator=torch.Generator().manual_seed(1))
    q.standardise(Prospect(torch.zeros(20, FEATURES), known, torch.zeros(20, 6)))
    ask = lambda spread: q(Prospect(torch.zeros(1, FEATURES), torch.cat([spread, known[:1, 12:]], -1), torch.zeros(1, 6)))  # noqa: E731
    least = known[:, :12].amin(0, keepdim=True)
    assert torch.equal(ask(least - 3.0), ask(least)) and not torch.equal(ask(least + 0.5), ask(least))


def test_q_learns_on_which_side_the_return_is(stage: Rehearsal, learners) -> None:
    eye, actor, q = learners
    generator = torch.Generator().manual_seed(6)
    many = stage.take(torch.randint(stage.count, (400,), generator=generator))
    view = SHELL.draw(400, generator)
    rows = Rows.of(many, view, (view[:, 0] > 0).float(), torch.zeros(400, 5))
    expected = imagine(rows, actor, eye, SHELL, generator)
    losses = q_function.fit(q, expected, rows.value, rows.precision, QSettings(updates=150, batch=32), generator)
    assert min(losses) < 0.4, "a coin has .69"


def test_q_learns_that_another_side_than_the_present_one_pays(stage: Rehearsal, learners) -> None:
    eye, actor, _ = learners
    generator = torch.Generator().manual_seed(7)
    q = QFunction(2, generator)
    many, view = stage.take(torch.randint(stage.count, (400,), generator=generator)), SHELL.draw(400, generator)
    many.view = SHELL.draw(400, generator)
    alike = (SHELL.ray(view) * SHELL.ray(many.view)).sum(-1)
    rows = Rows.of(many, view, (alike < alike.median()).float(), torch.zeros(400, 5))
    expected = imagine(rows, actor, eye, SHELL, generator)
    losses = q_function.fit(q, expected, rows.value, rows.precision, QSettings(updates=250, batch=32), generator)
    assert min(losses) < 0.5, "a coin has .69"


def test_a_study_says_where_each_way_of_choosing_ends(stage: Rehearsal, learners) -> None:
    eye, actor, q = learners
    chooser = Viewpoint(q, actor, eye, SHELL, ViewSettings(candidates=4, refined=1, steps=1))
    one = stage.take(torch.tensor([0]))
    settings = StudySettings(views=3, draws=2, steps=2, probes=1)
    state = study(one, eye, {"Q": chooser}, lambda q, X_WC: bool(X_WC[1, 3] > 0), QSettings(), settings)
    assert len(state["views"]) == 3 and all(v[0] > 0 for v in state["views"]), "only what is reached is tried"
    assert len(state["nine"]) < len(NINE) and len(best_of_nine([state])) == len(state["nine"])
    assert -1 <= gradient_cosine(chooser, situation(one), one.view[0], torch.tensor([0.3, 0.8, 0.4])) <= 1
    image, strength = saliency(stage, actor, eye)
    assert image.shape[:2] == strength.shape[:2] == (stage.count, len(TASK.crops)) and float(strength.max()) == 1.0


def test_the_threads_of_dagger_change_nothing(stage: Rehearsal) -> None:
    def trained() -> tuple[list[float], dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(7)
        actor = Actor(stage.expert.policy, generator, TASK.crops)
        rehearsal = Rehearsal(stage.expert, stage.sensing, SHELL, 8, generator)
        settings = dagger.DaggerSettings(iterations=4, updates=2, batch=8)
        return dagger.train(actor, Eye(stage.model, TASK), rehearsal, settings), actor.state_dict()

    (losses, first), (again, second) = trained(), trained()
    assert losses == again and len(losses) == 4 and all(torch.equal(first[k], second[k]) for k in first)


def test_what_floats_is_believed_to_move_as_it_does_and_is_known_anew_at_each_look() -> None:
    """A pancake that is thrown: looks follow it, each as much off, and what was known of it is of where it was."""
    task = registry.make("spatula-flipping")
    expert = Expert(make_model(task), task)
    some = Rehearsal(expert, Sensing(2, torch.Generator().manual_seed(0)), Shell.of(task), 3, torch.Generator().manual_seed(1))
    units, model = some.model.units, some.model
    speed, cake = model.scene.coordinates("pancake")[1], [u.name for u in units].index("pancake")
    some.truth.state.qd[:, speed] = torch.tensor([0.0, 0.0, 1.5, 5.0, 0.0, 0.0])
    where = lambda: some._in_parents(some.truth)  # noqa: E731
    first, off = where(), between(units, where(), some.belief)
    some.act(torch.zeros(3, 6))
    moved = between(units, first, where())[:, cake]
    assert float(moved[:, :3].norm(dim=-1).min()) > 0.05
    assert torch.allclose(between(units, where(), some.belief)[:, cake], off[:, cake], atol=1e-4)
    every, known = torch.ones(3, dtype=torch.bool), []
    for _ in range(3):
        some.look(every)
        known.append(torch.linalg.det(some.sure).log())
    both = some.shown.all(-1)
    assert bool(both.any()) and torch.allclose(known[2][both, cake], known[1][both, cake])
    assert float((known[2] - known[1])[both, 1 - cake].min()) > 0.5  # what stays in the hand is known better with each


def test_a_share_of_episodes_begins_where_only_learning_does() -> None:
    """A pancake that floats begins on the blade, upside down or beside it; none of the task's own starts is lifted."""
    task = registry.make("spatula-flipping")
    expert = Expert(make_model(task), task)
    make = lambda staged: Rehearsal(  # noqa: E731
        expert, Sensing(2, torch.Generator().manual_seed(0)), Shell.of(task), 32, torch.Generator().manual_seed(0), staged=staged
    )
    assert not bool(make(0.0).measures["lifted"].any())
    stage = make(0.9)
    begun = stage.measures["lifted"].clone()
    assert 0.2 < float(begun.mean()) < 0.9 and float(stage.measures["up"].min()) < -0.9
    which = torch.arange(32) < 16
    stage.renew(which)
    assert torch.equal(stage.measures["lifted"][16:], begun[16:]) and not torch.equal(stage.measures["lifted"][:16], begun[:16])
