"""The actor π: from what 𝓜 renders of its estimate to an action. It sees two RGB-D crops around where the hand says the tool's
tip is, in the camera's frame, and says where the load and its target are; the expert's own policy makes an action of what
separates them. Places and axes are learned from what is drawn, actions from the expert, who knows the truth."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.core.nets import mlp
from samrl.learn.policies import Policy
from samrl.learn.trunk import PER_CROP, SIZE, Glimpse, Trunk, expected
from samrl.model.model import Command, Model
from samrl.model.render import Renderer
from samrl.model.scene import Params, Twin
from samrl.tasks.task import Task, Told, separation

CROPS = 2
FEATURES = (PER_CROP + 12) * CROPS + 12 + 12  # numbers that the actor makes of what it sees
ROUGH = 1 / 3  # detail of thin solids: a pixel is as wide as they are, and learning sees a million images


@dataclass(frozen=True)
class Sight:
    """What the actor sees. images: (n, 2, S, S, 5); pose: (n, 12) the world's vertical, the tool's z and x axis and where its tip
    nominally is [m], in the camera's frame; R_WC: (n, 3, 3); tip: (n, 3) it in the world; X_WE, lead, q, motion: as in Told."""

    images: Tensor
    pose: Tensor
    R_WC: Tensor
    tip: Tensor
    X_WE: Tensor
    lead: Tensor
    q: Tensor
    motion: Tensor

    def parts(self) -> list[Tensor]:
        """Its tensors, in their order."""
        return [getattr(self, f.name) for f in fields(self)]

    def told(self, marks: Tensor) -> Told:
        """With landmarks (n, 4, 3) about the tip, see `about`."""
        return Told(torch.cat([marks[:, :2] + self.tip[:, None], marks[:, 2:]], 1), self.X_WE, self.lead, self.q, self.motion)


@dataclass(frozen=True)
class Place:
    """What every camera finds there: situations (n), or one for all. params: in the nominal scene's paint; X_WE: (n, 4, 4) tool;
    X_WL: (n, nl, 4, 4) links; tip: (n, 3) where it nominally is [m]; lead, q, motion: see Told."""

    params: Params
    X_WE: Tensor
    X_WL: Tensor
    tip: Tensor
    lead: Tensor
    q: Tensor
    motion: Tensor


class Eye:
    """Renders what the actor sees: where things are, in the paint and the light of the nominal scene, whatever those of the
    estimate are.

    Args:
        task: whose crops they are, about its tip, where that nominally is in the tool's frame.
    """

    def __init__(self, model: Model, task: Task) -> None:
        self.model, self.task, self.tip_E = model, task, task.tip().to(model.dtype)
        detail = np.where(model.detail < 1, ROUGH, model.detail)
        self.renderer = Renderer(model.scene, detail=detail, device=model.device, mean_depth=True)

    def see(self, twin: Twin, command: Command, X_WC: Tensor) -> Sight:
        """The sight of a batch of situations (n) by cameras (n, 4, 4); differentiable in the camera."""
        return self.look(self.place(twin, command), X_WC)

    def place(self, twin: Twin, command: Command) -> Place:
        """A batch of situations (n) before any camera."""
        q = self.model.arm(twin.state).q
        X_WE = self.model.chain.tool(q)
        paint = {n: getattr(self.model.params, n) for n in ("color", "light_direction", "ambient", "diffuse")}
        tip = lie.transform(X_WE, self.tip_E.expand(len(X_WE), 1, 3))[:, 0]
        lead, motion = lie.local(X_WE, command.X_WE), self.model.motion(twin.state)
        return Place(twin.params.replace(**paint), X_WE, self.model.link_poses(twin), tip, lead, q, motion)

    def look(self, at: Place, X_WC: Tensor) -> Sight:
        """The sight of situations (n), or of one, by cameras (n, 4, 4); differentiable in the camera."""
        tip_C = lie.transform(lie.inverse(X_WC), at.tip[:, None])[:, 0]
        z = tip_C[:, 2]
        width = z.new_tensor(self.task.crops)[:, None]
        rgbd = self.renderer.render(at.params, at.X_WL, Camera.around(X_WC, at.tip, SIZE, width))
        depth = torch.where(rgbd.valid, (rgbd.depth - z[:, None, None]) / width[..., None, None], 0.0).clamp(-2, 2)
        images = torch.cat([rgbd.color - 0.5, depth[..., None], rgbd.valid[..., None].float()], -1)
        R_CW = X_WC[:, :3, :3].mT
        axes = (R_CW @ at.X_WE[:, :3, i : i + 1] for i in (2, 0))
        pose = torch.cat([R_CW[:, :, 2], *(x[..., 0] for x in axes), tip_C], -1)
        as_many = (x.expand(len(X_WC), *x.shape[1:]) for x in (at.tip, at.X_WE, at.lead, at.q, at.motion))
        return Sight(images.transpose(0, 1), pose, X_WC[:, :3, :3], *as_many)


def about(marks: Tensor, middle: Tensor) -> Tensor:
    """Landmarks (n, 4, 3) with both places taken from the points `middle` (n, 3) [m], which the crops are about."""
    return torch.cat([marks[:, :2] - middle[:, None], marks[:, 2:]], 1)


class Actor(nn.Module):
    """Sight -> (tip error (n, 3) [m], axis error (n, 3) [rad], action (n, 6)), in the world's axes (tasks.task.separation).

    Args:
        policy: the expert's.
        crops: see Task.crops.
    """

    def __init__(self, policy: Policy, generator: torch.Generator, crops: tuple[float, float]) -> None:
        super().__init__()
        self.crops = crops
        self.trunks = nn.ModuleList(Trunk(generator) for _ in range(CROPS))
        self.head = mlp([FEATURES, 256, 128, 12], generator, 0.1)
        self.policy = policy  # the expert's, whose weights stay as they are

    def glimpses(self, sight: Sight) -> list[Glimpse]:
        """Of each of the crops."""
        return [trunk(sight.images[:, i]) for i, trunk in enumerate(self.trunks)]

    def features(self, sight: Sight) -> Tensor:
        """(n, FEATURES)."""
        return gather(sight, self.glimpses(sight), self.crops)

    def landmarks(self, sight: Sight, features: Tensor) -> Tensor:
        """Where load and target are (n, 4, 3), see `about`, in the world's axes. What separates them could be asked for at
        once, but each is seen by itself, and is learned in fewer steps."""
        found, more = features[:, -12:].unflatten(-1, (4, 3)), self.head(features).unflatten(-1, (4, 3))
        places, axes = _wide(found[:, :2]) + _wide(more[:, :2]), found[:, 2:] + more[:, 2:]
        return torch.cat([places, axes], 1) @ sight.R_WC.mT

    def forward(self, sight: Sight) -> tuple[Tensor, Tensor, Tensor]:
        return self.decide(sight, self.features(sight))

    def decide(self, sight: Sight, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from features (n, FEATURES) of that sight."""
        marks = self.landmarks(sight, features)
        return *separation(marks), self.policy(sight.told(marks))

    def loss(self, sight: Sight, marks: Tensor, action: Tensor) -> Tensor:
        """Absolute errors: of what separates load and target and of where they are, each against its own size, so that a
        millimetre counts near the target, though not so much that what cannot be seen there drowns the rest; and of the action in
        its limits. marks: (n, 4, 3), see `about`."""
        glimpses = self.glimpses(sight)
        features = gather(sight, glimpses, self.crops)
        marks_ = self.landmarks(sight, features)
        (tip, axis), (tip_, axis_) = separation(marks), separation(marks_)
        action_ = self.policy(sight.told(marks_))
        apart = 2 * _relative(tip_, tip, 0.02) + _relative(axis_, axis, 0.05)
        found = _wide(features[:, -12:-6].unflatten(-1, (2, 3))) @ sight.R_WC.mT
        places = 0.5 * _relative(marks_[:, :2], marks[:, :2], 0.02) + 0.25 * _relative(found, marks[:, :2], 0.02)
        axes = 2 * (marks_[:, 2:] - marks[:, 2:]).abs().sum((1, 2))
        acts = ((action_ - action) / self.policy.limits).abs().mean(-1)
        return (apart + places.sum(1) + axes + acts + 0.2 * missed(sight, glimpses, marks, self.crops)).mean()


def gather(sight: Sight, glimpses: list[Glimpse], crops: tuple[float, float]) -> Tensor:
    """(n, FEATURES): of the crops, of the camera, the landmarks in the camera's axes as each crop has them, and last, (12) as the
    crops have them together: each counts as far as it has them, and as it is fine. Places are told as asinh(p / 1 cm)."""
    tip_C, widths = sight.pose[:, None, 9:], sight.pose.new_tensor(crops)
    places, weights = [], []
    for glimpse, width in zip(glimpses, widths, strict=True):
        behind = width * glimpse.depth[..., None]
        z = tip_C[..., 2:]
        across = 0.5 * width * glimpse.uv * (z + behind) / z + tip_C[..., :2] / z * behind
        places.append(torch.cat([across, behind], -1))
        weights.append(glimpse.inside / width**2)
    weights[0] = weights[0] + 0.01 / widths[0] ** 2  # where none has it
    weight = torch.stack(weights)[..., None]
    weight = weight / weight.sum(0)
    each, axes = torch.stack(places), torch.stack([g.axes for g in glimpses])
    whole = _near((weight * each).sum(0)), (weight * axes).sum(0)
    told = [x.flatten(1) for x in (*_near(each), *axes, *whole)]
    return torch.cat([*(g.features for g in glimpses), sight.pose, *told], -1)


def missed(sight: Sight, glimpses: list[Glimpse], marks: Tensor, crops: tuple[float, float]) -> Tensor:
    """How surprised the crops are (n) by where the landmarks (n, 4, 3), see `about`, are: cross-entropy, summed over all."""
    tip_C = sight.pose[:, None, 9:]
    p = marks[:, :2] @ sight.R_WC + tip_C
    slope = p[..., :2] / p[..., 2:].clamp_min(0.01) - tip_C[..., :2] / tip_C[..., 2:]
    out = sight.pose.new_zeros(len(p))
    for glimpse, width in zip(glimpses, crops, strict=True):
        wanted = expected(slope * tip_C[..., 2:] / (width / 2))
        out = out - (wanted * glimpse.logits.log_softmax(-1)).sum((1, 2))
    return out


def _near(p: Tensor) -> Tensor:
    """Lengths [m] on a scale that is fine where they are small: the loss is relative, and so are Adam's steps."""
    return torch.asinh(p / 0.01)


def _wide(x: Tensor) -> Tensor:
    """The inverse of `_near`."""
    return 0.01 * torch.sinh(x.clamp(-5, 5))


def _relative(x: Tensor, wanted: Tensor, least: float) -> Tensor:
    """Absolute error, summed over the last axis, against the length of what is wanted and a little more."""
    return (x - wanted).abs().sum(-1) / (wanted.norm(dim=-1) + least)
