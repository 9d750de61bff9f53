"""The actor π: from what 𝓜 renders of its estimate to an action. It sees three RGB-D crops around where the hand says the tool's
tip is, in the camera's frame, and says what separates the load from its target; the expert's own policy makes an action of
that. Both the separation and the action are learned from the expert's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.core.nets import mlp
from samrl.learn.expert import StatePolicy
from samrl.model.model import Command, Model
from samrl.model.render import Renderer
from samrl.model.scene import Params, Twin
from samrl.tasks.task import Task

SIZE, WIDTHS = 64, (0.30, 0.09, 0.03)  # pixels across, and metres across at the tip's depth, of the crops
FEATURES = 256 * len(WIDTHS) + 10  # numbers that the actor makes of what it sees
CHANNELS = 5  # colour, depth about the tip's, whether there is any
ROUGH = 1 / 3  # detail of thin solids: a pixel is as wide as they are, and learning sees a million images
HALF = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # convolutions train in half precision where the processor can: 1.6 x as fast


@dataclass(frozen=True)
class Sight:
    """What the actor sees. images: (n, 3, S, S, 5); pose: (n, 10) the world's vertical and the tool's axes in the camera's frame
    and the tip's depth; R_WC: (n, 3, 3); lead: (n, 6) of the command before the measured pose."""

    images: Tensor
    pose: Tensor
    R_WC: Tensor
    lead: Tensor

    @property
    def R_WE(self) -> Tensor:
        """(n, 3, 3) the tool's axes in the world."""
        z, x = self.pose[:, 3:6], self.pose[:, 6:9]
        return self.R_WC @ torch.stack([x, torch.linalg.cross(z, x), z], -1)

    def __getitem__(self, index: Tensor) -> Sight:
        return Sight(self.images[index], self.pose[index], self.R_WC[index], self.lead[index])

    @staticmethod
    def cat(parts: list[Sight]) -> Sight:
        return Sight(*(torch.cat([getattr(p, n) for p in parts]) for n in ("images", "pose", "R_WC", "lead")))


@dataclass(frozen=True)
class Place:
    """What every camera finds there: situations (n), or one for all. params: in the nominal scene's paint; X_WE: (n, 4, 4) tool;
    X_WL: (n, nl, 4, 4) links; tip: (n, 3) where it nominally is [m]; lead: see Sight."""

    params: Params
    X_WE: Tensor
    X_WL: Tensor
    tip: Tensor
    lead: Tensor


class Eye:
    """Renders what the actor sees: where things are, in the paint and the light of the nominal scene, whatever those of the
    estimate are.

    Args:
        task: whose tip, where it nominally is in the tool's frame, the crops are about.
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
        X_WE = self.model.chain.tool(self.model.arm(twin.state).q)
        paint = {n: getattr(self.model.params, n) for n in ("color", "light_direction", "ambient", "diffuse")}
        tip = lie.transform(X_WE, self.tip_E.expand(len(X_WE), 1, 3))[:, 0]
        return Place(twin.params.replace(**paint), X_WE, self.model.link_poses(twin), tip, lie.local(X_WE, command.X_WE))

    def look(self, at: Place, X_WC: Tensor) -> Sight:
        """The sight of situations (n), or of one, by cameras (n, 4, 4); differentiable in the camera."""
        z = lie.transform(lie.inverse(X_WC), at.tip[:, None])[:, 0, 2]
        width = z.new_tensor(WIDTHS)[:, None]
        rgbd = self.renderer.render(at.params, at.X_WL, Camera.around(X_WC, at.tip, SIZE, width))
        depth = torch.where(rgbd.valid, (rgbd.depth - z[:, None, None]) / width[..., None, None], 0.0).clamp(-2, 2)
        images = torch.cat([rgbd.color - 0.5, depth[..., None], rgbd.valid[..., None].float()], -1)
        R_CW = X_WC[:, :3, :3].mT
        axes = (R_CW @ at.X_WE[:, :3, i : i + 1] for i in (2, 0))
        pose = torch.cat([R_CW[:, :, 2], *(x[..., 0] for x in axes), 2 * z[:, None] - 1], -1)
        return Sight(images.transpose(0, 1), pose, X_WC[:, :3, :3], at.lead.expand(len(X_WC), 6))


class Trunk(nn.Module):
    """A crop (n, S, S, 5) -> features (n, 256): convolutions that know where they look."""

    grid: Tensor

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        line = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
        self.register_buffer("grid", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None], persistent=False)
        widths, layers = [CHANNELS, 24, 32, 48, 64], []
        self.place = _convolution(2, widths[1], generator)  # of the grid, once for the whole batch
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [_convolution(a, b, generator), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.first, self.convolutions = layers[0], nn.Sequential(*layers[1:])
        self.rest = nn.Sequential(nn.Flatten(), mlp([64 * (SIZE // 16) ** 2, 256], generator), nn.ELU())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        half = self.training and HALF
        image = image.to(torch.bfloat16 if half else self.grid.dtype).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            x = self.convolutions(self.first(image) + self.place(self.grid))
        return self.rest(x.float())


def _convolution(a: int, b: int, generator: torch.Generator) -> nn.Conv2d:
    conv = nn.Conv2d(a, b, 3, stride=2, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class Actor(nn.Module):
    """Sight -> (tip error (n, 3) [m], axis error (n, 3) [rad], action (n, 6)), in the world's axes (task.errors)."""

    def __init__(self, policy: StatePolicy, generator: torch.Generator) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(generator) for _ in WIDTHS)
        self.head = mlp([FEATURES, 256, 128, 6], generator, 0.1)
        self.policy = policy  # the expert's, whose weights stay as they are

    def features(self, sight: Sight) -> Tensor:
        """(n, FEATURES)."""
        return torch.cat([*(trunk(sight.images[:, i]) for i, trunk in enumerate(self.trunks)), sight.pose], -1)

    def separation(self, sight: Sight, features: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(features)
        turn = lambda v: (sight.R_WC @ v[..., None])[..., 0]  # noqa: E731
        near = 0.01 * torch.sinh(out[:, :3].clamp(-5, 5))  # fine where it is near: the loss is relative, and so are Adam's steps
        return turn(near), turn(0.2 * out[:, 3:])

    def forward(self, sight: Sight) -> tuple[Tensor, Tensor, Tensor]:
        return self.decide(sight, self.features(sight))

    def decide(self, sight: Sight, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from features (n, FEATURES) of that sight."""
        tip, axis = self.separation(sight, features)
        return tip, axis, self.policy(tip, axis, sight.lead, sight.R_WE)

    def loss(self, sight: Sight, tip: Tensor, axis: Tensor, action: Tensor) -> Tensor:
        """Absolute errors of separation, each against its own size (so that a millimetre counts near the target, though not so
        much that what cannot be seen there drowns the rest), and of the action in its limits."""
        tip_, axis_, action_ = self(sight)
        far = (tip_ - tip).abs().sum(-1) / (tip.norm(dim=-1) + 0.02)
        turned = (axis_ - axis).abs().sum(-1) / (axis.norm(dim=-1) + 0.05)
        return (2 * far + 0.5 * turned + ((action_ - action) / self.policy.limits).abs().mean(-1)).mean()
