"""Which crops to look at, and when the estimate counts as lost: the update from one image to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from samrl.core.camera import Camera, Roi
from samrl.core.types import RGBD
from samrl.core.world import World
from samrl.model.model import Model
from samrl.model.placement import set_unit_poses, unit_poses
from samrl.model.scene import Twin
from samrl.model.units import DRIFT, Unit, before_images, fuse
from samrl.real2sim.album import Album
from samrl.real2sim.floating import TURN, floating, guesses, hastened, likeliest, sided, stopped
from samrl.real2sim.frames import Crop, choose_roi, make_crop
from samrl.real2sim.locate import locate
from samrl.real2sim.problem import Prior, Priors, Problem, UpdateSettings
from samrl.real2sim.update import UpdateReport, update

FAR_BELOW = -100.0  # where no camera looks [m]


@dataclass(frozen=True)
class Expectation:
    """Where the twin expects a unit: coverage and depth (H, W) [m], and how far it may be from there [m]."""

    mask: np.ndarray
    depth: np.ndarray
    reach: float


Segment = Callable[[RGBD, dict[str, Expectation], np.ndarray], RGBD]


class Tracker:
    """Keeps a twin aligned through an episode.

    A rigid body that may be centimetres away is first located on a wide crop from several starts; then, as at every later step,
    each unit is aligned on a crop around it. Estimates are of poses in the parents, and fused over the steps: each look moves
    them as far as it shows them better than all looks before, so that one view gives the depth that another one lacks.

    Args:
        camera: the whole native image's camera; its pose is set at each look.
        known: unit -> (about [m], about [rad], and perhaps of its z axis [rad]) how far it may be from its first estimate; rigid
            ones that are not named, and those beyond NEAR, are located first.
        segment: a mask source of one's own: (image, expectations, depth (H, W) [m] of what is none of the units) -> image with
            its masks replaced; without it the world's masks are used.
    """

    WIDE, WIDE_SIZE, WIDE_PIXEL = 0.40, 96, 0.004  # the wide crop: metres across at least, pixels, metres a pixel
    FIRST_SIZE, LATER_SIZE, PIXEL = 96, 64, 0.0012  # the near crops: pixels at first and later, metres a pixel
    NEAR = 0.010  # a unit known this well needs no locating [m]
    ANYWHERE = (math.inf, math.inf)  # how far a unit may be of which that is not known [m, rad]
    STRAY = 2.0  # times as far as a unit may be from its first estimate, it is not, whatever an image seems to show

    def __init__(
        self, model: Model, camera: Camera, settings: UpdateSettings | None = None,
        known: dict[str, tuple[float, ...]] | None = None, segment: Segment | None = None,
    ) -> None:  # fmt: skip
        self.model, self.camera, self.known, self.segment = model, camera, dict(known or {}), segment
        self.first = settings or UpdateSettings()
        self.units = {u.name: u for u in model.units}
        near = replace(self.first, fine_steps=6, rate_p=0.0005, rate_r=0.005, rate_color=0.02)
        self.floating = floating(model)
        self.later = self.first if self.floating else near
        self.far = tuple(n for n, u in self.units.items() if not u.bends and self.known.get(n, self.ANYWHERE)[0] > self.NEAR)
        self.sure = {n: before_images(self.known.get(n)) for n in self.units}  # information (6, 6), in the parent's axes
        self.unseen, self.looks = set(self.units), 0  # looks: from the present view
        self.album = Album(model, self.first)
        self.hidden: tuple[str, ...] = ()  # what floats and did not show in the last look
        self.rest, self.pause = 0, 2  # exposures until doubted bodies are looked for again, and after the next failure
        self.nominal: dict[str, torch.Tensor] | None = None
        self.last: Twin | None = None

    def observe(self, world: World, twin: Twin, X_WC: np.ndarray) -> tuple[Twin, UpdateReport, list[RGBD], dict[str, float]]:
        """Look and align. Returns the twin, the report, the images of the last look, and seconds spent in look and update."""
        camera = self.camera.at(torch.as_tensor(X_WC, dtype=torch.float64))
        self.looks = self.looks + 1 if torch.equal(camera.X_WC, self.camera.X_WC) else 1
        self.camera = camera
        if self.looks == 1:
            self.rest, self.pause = 0, 2
        times = {"look": 0.0, "update": 0.0}
        if self.nominal is None:
            self.nominal = {n: unit_poses(self.model.scene, twin, u) for n, u in self.units.items()}
        moved = [self.units[n] for n in self.floating if n not in self.unseen]
        if self.far:
            (image,) = self.see(world, X_WC, twin, [self.wide_roi(twin)], times)
            with timed(times, "update"):
                twin = self.locate(twin, image)
        images = self.see(world, X_WC, twin, self.rois(twin), times)
        if moved and self.last is not None:
            twin, images = self.follow(world, X_WC, twin, images, moved, times)
        with timed(times, "update"):
            before = self.foreseen(twin, moved)
            twin, report = self.update(before, images)
            shown = [u for u in moved if u.name not in report.lost]
            twin = hastened(self.model, before, twin, shown)
            if shown:
                settings = replace(self.later, units=tuple(u.name for u in shown))
                twin = sided(Problem(self.model, twin, self.crops(images), settings), twin)
            self.last = twin = self.missed(twin, report)
        return twin, report, images, times

    def see(self, world: World, X_WC: np.ndarray, twin: Twin, rois: list[Roi], times: dict[str, float]) -> list[RGBD]:
        """One exposure of these regions, with masks from the mask source."""
        with timed(times, "look"):
            images = world.look(X_WC, rois)
        with timed(times, "update"):
            return self.masked(twin, images)

    def follow(
        self, world: World, X_WC: np.ndarray, twin: Twin, images: list[RGBD], units: Sequence[Unit], times: dict[str, float]
    ) -> tuple[Twin, list[RGBD]]:
        """Put floating units where images bear them out, near ones or else a wide one, and return near images of them there."""
        assert self.last is not None
        with timed(times, "update"):
            each = guesses(self.model, self.last, twin, units)
            twin, right = self.likeliest(twin, self.crops(images), each, units)
        if right:
            return twin, images
        wide = self.see(world, X_WC, twin, [self.wide_roi(twin)], times)
        with timed(times, "update"):
            crops = [make_crop(wide[0], tuple(self.units), self.WIDE_SIZE, self.camera)]
            twin, _ = self.likeliest(twin, crops, each, units)
        return twin, self.see(world, X_WC, twin, self.rois(twin), times)

    def likeliest(self, twin: Twin, crops: Sequence[Crop], each: Sequence[Twin], units: Sequence[Unit]) -> tuple[Twin, bool]:
        """Of the guesses of where floating units are by now, what the crops bear out best, and whether it looks right."""
        settings = replace(self.later, units=tuple(u.name for u in units))
        hidden = any(u.name in self.hidden for u in units)  # what nobody watched may have turned over
        return likeliest(Problem(self.model, twin, crops, settings), each, 0.0 if hidden else TURN)

    def foreseen(self, twin: Twin, units: Sequence[Unit]) -> Twin:
        """Know of floating units no more than that they are near where the twin has them."""
        for u in units:
            self.nominal[u.name] = unit_poses(self.model.scene, twin, u)  # type: ignore[index]
            self.known[u.name], self.sure[u.name] = DRIFT, before_images(DRIFT)
        return twin

    def missed(self, twin: Twin, report: UpdateReport) -> Twin:
        """Floating units that are out of view stay where they were seen last; `follow` looks for them from afar next time."""
        self.hidden = tuple(n for n in self.floating if n in report.lost)
        if self.last is not None:
            for u in (self.units[n] for n in self.hidden):
                twin = stopped(self.model, twin, self.last, u)
        return twin

    def masked(self, twin: Twin, images: Sequence[RGBD]) -> list[RGBD]:
        """The images with masks from the mask source, which is told where the twin expects each body."""
        if self.segment is None:
            return list(images)
        return [self.segment(image, *self.expected(twin, image)) for image in images]

    def expected(self, twin: Twin, image: RGBD) -> tuple[dict[str, Expectation], np.ndarray]:
        """What the image's camera would see in the twin: each unit as if those that are still to be located hid nothing, for
        nobody knows where they are; and the depth (H, W) [m] of what is none of the bodies, the arm above all, as if these were
        not there, 0 where there is nothing."""
        side = image.camera.width
        k = next(n for n in range(max(1, side // self.WIDE_SIZE), side + 1) if side % n == 0)
        camera = replace(image.camera, width=side // k, height=side // k, K=image.camera.K / k)
        grow = lambda x: x.numpy().repeat(k, 0).repeat(k, 1)  # noqa: E731
        expectations = {}
        for name in self.units:
            seen = self._without([n for n in self.far if n != name], twin, camera)
            reach = self.known.get(name, (0.08, 1.0))[0]
            expectations[name] = Expectation(grow(seen.masks[name]), grow(seen.depth), reach)
        return expectations, grow(self._without(tuple(self.units), twin, camera).depth)

    def _without(self, names: Sequence[str], twin: Twin, camera: Camera) -> RGBD:
        """The twin as the camera would see it if these units were not there."""
        X_WL = self.model.link_poses(twin).clone()
        X_WL[[self.model.scene.link(b) for n in names for b in self.units[n].bodies], 2, 3] = FAR_BELOW
        with torch.no_grad():
            return self.model.renderer.render(twin.params, X_WL, camera)

    @property
    def fresh(self) -> bool:
        """Some body has not been seen yet."""
        return bool(self.unseen)

    @property
    def size(self) -> int:
        """Pixels across the near crops of the next look."""
        return self.FIRST_SIZE if self.fresh else self.LATER_SIZE

    def wide_roi(self, twin: Twin) -> Roi:
        """A region of the native image around all units as they are believed to be."""
        middle = self.model.frames(self.model.link_poses(twin))[:, :3, 3].mean(0).double()
        return choose_roi(self.camera, middle, self.WIDE_SIZE, self.WIDE_PIXEL, self.WIDE)

    def rois(self, twin: Twin) -> list[Roi]:
        """Regions of the native image around each projected estimate."""
        centers = self.model.frames(self.model.link_poses(twin))[:, :3, 3].double()
        pixel = lambda u: max(self.PIXEL, u.span / self.size)  # noqa: E731
        return [choose_roi(self.camera, p, self.size, pixel(u)) for p, u in zip(centers, self.model.units, strict=True)]

    def locate(self, twin: Twin, image: RGBD) -> Twin:
        """Bring far bodies near by a wide image."""
        crop = make_crop(image, tuple(self.units), self.WIDE_SIZE, self.camera)
        settings = replace(self.first, units=self.far, coarse_yaws=self.yaws())
        return self.possible(twin, locate(self.model, twin, [crop], settings, self.priors(twin)))[0]

    def yaws(self) -> tuple[float, ...]:
        """Turns about the vertical to locate from: the settings', repeated as far as the far bodies may be turned."""
        yaws = self.first.coarse_yaws
        step = max(map(abs, yaws))
        about = max((self.known.get(b, self.ANYWHERE)[1] for b in self.far), default=0.0)
        if not step or math.isinf(about):
            return yaws
        more = [k * step * sign for k in range(2, int(about / step)) for sign in (-1, 1)]
        return (*yaws, *more)

    def crops(self, images: Sequence[RGBD]) -> list[Crop]:
        return [make_crop(image, tuple(self.units), self.size, self.camera) for image in images]

    def update(self, twin: Twin, images: Sequence[RGBD]) -> tuple[Twin, UpdateReport]:
        """Align the twin with near images."""
        # from afar a quarter turn hardly shows; what floats turns over, and its paint tells that
        painted = tuple(n for n in self.floating if n not in self.unseen)
        settings = replace(self.first if self.fresh else self.later, suspects=self.far, painted=painted)
        if self.rest:  # it has been looked for again in vain
            settings = replace(settings, doubt=float("inf"))
        crops = self.crops(images)
        self.album.add(twin, crops, moved=self.looks == 1)
        new, report = update(self.model, twin, crops, settings, self.priors(twin), self.album)
        new, strayed = self.possible(twin, new)
        report = replace(report, lost=report.lost + tuple(b for b in strayed if b not in report.lost))
        self.far = tuple(b for b in self.far if b in report.lost)
        self.rest = max(0, self.rest - 1)
        if set(report.doubted) - set(report.replaced):
            self.rest = self.pause = 2 * self.pause
        return self.fused(twin, new, report), report

    def possible(self, old: Twin, new: Twin) -> tuple[Twin, tuple[str, ...]]:
        """`new`, with the poses in `old` of units that it puts where they cannot be; and which those are."""
        scene, strayed = self.model.scene, []
        assert self.nominal is not None
        for name, X_PB in self.nominal.items():
            u = self.units[name]
            far = u.between(X_PB, unit_poses(scene, new, u))[:3]
            if float(far.norm()) > self.STRAY * self.known.get(name, self.ANYWHERE)[0]:
                new = set_unit_poses(scene, new, u, unit_poses(scene, old, u))
                strayed.append(name)
        return new, tuple(strayed)

    def priors(self, twin: Twin) -> Priors:
        """The first estimates, about where each unit's parent is now, and how far from them the units may be; those of which
        that is not known, anywhere."""
        X_WL, priors = self.model.link_poses(twin), {}
        assert self.nominal is not None
        for name, X_PB in self.nominal.items():
            X_WB = self.model.placed(self.units[name], twin, X_WL, X_PB)
            priors[name] = Prior(X_WB, *self.known.get(name, self.ANYWHERE))
        return priors

    def fused(self, old: Twin, new: Twin, report: UpdateReport) -> Twin:
        """Move each estimate as far as this look tells more of it than those before. Looks from one view err alike: the n-th from
        there counts by 1/n."""
        scene, X_WL = self.model.scene, self.model.link_poses(old)
        for name, told in report.information.items():
            if name in report.lost:
                continue
            if name in report.replaced:  # what was believed so far is no longer
                self.sure[name] = before_images(self.known.get(name))
            self.unseen.discard(name)
            u, told = self.units[name], told.double()
            if not u.bends:  # told of in the world's axes
                R_PW = self.model.bodies_of(u, X_WL)[0][:3, :3].mT.double()
                turn = torch.block_diag(R_PW, R_PW)
                told = turn @ told @ turn.mT
            X_old, X_new = unit_poses(scene, old, u), unit_poses(scene, new, u)
            alike = 1 if name in self.floating else self.looks  # where it is now, no look before has told
            way, self.sure[name] = fuse(self.sure[name], told / alike, u.between(X_old, X_new))
            new = set_unit_poses(scene, new, u, u.turn(X_old, way))
        return new

    def uncertainty(self) -> dict[str, float]:
        """Standard deviation of each unit's place (of a chain's free end) by now, along the axis where it is largest [m]."""
        return {n: math.sqrt(float(torch.linalg.eigvalsh(torch.linalg.inv(s)[:3, :3])[-1])) for n, s in self.sure.items()}

    def information(self) -> torch.Tensor:
        """What is known of each unit by now, from images and before them: (U, 6, 6), inverse covariances in the parents' axes."""
        return torch.stack(list(self.sure.values()))

    def pictures(self, images: Sequence[RGBD], before: Twin, after: Twin) -> dict[str, np.ndarray]:
        """uint8 pictures (H, W, 3), the crops of one look side by side at native resolution: world, twin before and after."""
        crops = [make_crop(image, tuple(self.units), image.camera.width, self.camera) for image in images]
        side = min(c.camera.width for c in crops)

        def draw(twin: Twin) -> list[np.ndarray]:
            with torch.no_grad():
                return [self.model.render(twin, c.camera).color.numpy()[:side, :side] for c in crops]

        world = [c.color.numpy()[:side, :side] for c in crops]
        rows = {"world": world, "before": draw(before), "after": draw(after)}
        return {k: (np.concatenate(v, 1).clip(0, 1) * 255).astype(np.uint8) for k, v in rows.items()}


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to times[name]."""
    began = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - began
