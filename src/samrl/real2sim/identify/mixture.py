"""A distribution over the free numbers: a mixture of Gaussians (Heiden et al., Sec. IV), learned while motion comes in.

Two objectives. "huber" is the paper's: a kernel is chosen by Gumbel-softmax, a sample of each is mixed by it, and the Huber loss
of the motion that follows goes down by Adam. Its variances shrink as long as it runs: they say where the search is, not how sure
it is. "posterior", the default, is the evidence lower bound of a likelihood whose noise is found too, each kernel sampled by
itself (Morningstar et al. 2021, "Automatic Differentiation Variational Inference with Mixtures"): its intervals are
calibrated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss, log_softmax

from samrl.core.errors import SamrlError
from samrl.model.scene import Params
from samrl.real2sim.identify import evidence
from samrl.real2sim.identify.fit import fit
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem

OBJECTIVES = ("posterior", "huber")
TEMPERATURE = 2 / 3  # of Gumbel-softmax (Heiden et al., Sec. IV)


@dataclass(frozen=True)
class Mixture:
    """Σ_k φ_k N(μ_k, L_k L_kᵀ) over x: log_weights (K), means (K, P), trils (K, P, P)."""

    log_weights: Tensor
    means: Tensor
    trils: Tensor

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, P) draws."""
        k = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[k] + (self.trils[k] @ noise[..., None])[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """(*batch) logarithm of the density at x (*batch, P)."""
        away = torch.linalg.solve_triangular(self.trils, (x[..., None, :] - self.means)[..., None], upper=False)[..., 0]
        volume = self.trils.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        each = -0.5 * away.square().sum(-1) - volume - 0.5 * x.shape[-1] * math.log(2 * math.pi)
        return torch.logsumexp(self.log_weights + each, -1)

    def holds(self, x: Tensor, share: float, generator: torch.Generator, count: int = 4000) -> Tensor:
        """(*batch) whether x (*batch, P) is in the smallest region that has this share of the probability."""
        least = self.log_prob(self.sample(count, generator)).quantile(1 - share)
        return self.log_prob(x) >= least

    def mean(self) -> Tensor:
        """(P)."""
        return self.log_weights.exp() @ self.means

    def covariance(self) -> Tensor:
        """(P, P)."""
        phi, away = self.log_weights.exp(), self.means - self.mean()
        return torch.einsum("k,kij->ij", phi, self.trils @ self.trils.mT + away[..., None] * away[..., None, :])

    def deviations(self) -> Tensor:
        """(K, P) standard deviations."""
        return (self.trils @ self.trils.mT).diagonal(dim1=-2, dim2=-1).sqrt()

    def params(self, free: Free, count: int, generator: torch.Generator) -> Params:
        """Parameters of `count` draws, a batch."""
        return free.put(self.sample(count, generator))


@dataclass
class Learned:
    """What learning a mixture leaves.

    Attributes:
        mixture; noise: standard deviation of a residual; inflation: see `Evidence`.
        history: (epochs + 1) mixtures; losses: (epochs); seen: (epochs) windows that had come.
        seconds.
    """

    mixture: Mixture
    noise: float
    inflation: float
    history: list[Mixture]
    losses: list[float]
    seen: list[int]
    seconds: float


@dataclass
class Settings:
    """kernels: K; epochs: passes over the windows that have come; samples: of each kernel a pass; rate: of Adam, at first;
    online: windows come evenly over this share of the epochs, in their order (all at once: 0); share: see `fit`; starts: windows'
    starts are uncertain too; adjust: widen by `Evidence.inflation`."""

    kernels: int = 3
    epochs: int = 120
    objective: str = "posterior"
    samples: int = 2
    rate: float = 0.05
    online: float = 0.0
    share: float = 0.5
    starts: bool = False
    adjust: bool = True
    seed: int = 0
    search: int = 20  # passes of the search for each kernel's first mean ("posterior")
    renew: int = 10  # passes from one arrival of windows to the next

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise SamrlError(f"unknown objective '{self.objective}': objectives are {', '.join(OBJECTIVES)}.")
        if self.kernels < 1 or self.epochs < 1:
            raise SamrlError(f"a mixture of {self.kernels} kernels in {self.epochs} epochs: both should be at least 1.")


class _Kernels(nn.Module):
    """The mixture's numbers while they are learned, each kernel's in coordinates u with x = origin_k + metric_k @ u, in which the
    posterior is round, so that Adam goes as far in each. `shape` holds L_k below its diagonal and its logarithm on it.

    Args:
        log_weights: (K); origin: (K, P); metric: (K, P, P); L: (K, P, P) in u.
    """

    def __init__(self, log_weights: Tensor, origin: Tensor, metric: Tensor, L: Tensor) -> None:
        super().__init__()
        self.origin, self.metric = origin, metric
        self.logits, self.u = nn.Parameter(log_weights.clone()), nn.Parameter(torch.zeros_like(origin))
        self.shape = nn.Parameter(L.tril(-1) + torch.diag_embed(L.diagonal(dim1=-2, dim2=-1).log()))

    def L(self) -> Tensor:
        return self.shape.tril(-1) + torch.diag_embed(self.shape.diagonal(dim1=-2, dim2=-1).exp())

    def mixture(self) -> Mixture:
        means = self.origin + (self.metric @ self.u[..., None])[..., 0]
        return Mixture(log_softmax(self.logits, 0), means, self.metric @ self.L())


def learn(problem: Problem, x0: Tensor, settings: Settings, report: Callable[[str], None] | None = None) -> Learned:
    """Learn a mixture from x0 (P), which is believed to be within `settings.share` of the truth."""
    began, generator = time.perf_counter(), torch.Generator().manual_seed(settings.seed)
    learner = _Learner(problem, x0, settings, generator)
    for epoch in range(settings.epochs):
        learner.epoch(epoch)
        if report:
            report(f"loss {learner.losses[-1]:.4g}")
    return Learned(
        learner.history[-1], learner.noise, learner.inflation, learner.history, learner.losses, learner.seen,
        time.perf_counter() - began,
    )  # fmt: skip


@dataclass
class _Learner:
    """The state of `learn`."""

    whole: Problem
    x0: Tensor
    settings: Settings
    generator: torch.Generator
    noise: float = 0.0
    inflation: float = 1.0
    history: list[Mixture] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        s, size = self.settings, len(self.x0)
        self.belief = self.whole.free.deviations(s.share)
        away = torch.randn(s.kernels, size, generator=self.generator, dtype=self.x0.dtype) * self.belief / 2
        away[0] = 0.0
        equal = self.x0.new_full((s.kernels,), -math.log(s.kernels))
        metric = torch.diag(self.belief).expand(s.kernels, -1, -1)
        self._set(equal, self.x0 + away, metric, torch.eye(size, dtype=self.x0.dtype).expand(s.kernels, -1, -1) / 2)
        self.history.append(_copy(self.kernels.mixture()))
        self.problem = self.whole
        self.d: Tensor | None = None  # (K, W, 2 nv) starts as each kernel has them best
        self.Q: Tensor | None = None  # (K, W, N, 2 nv) what other starts would change, as orthonormal columns

    def _set(self, log_weights: Tensor, origin: Tensor, metric: Tensor, L: Tensor) -> None:
        self.kernels = _Kernels(log_weights, origin, metric, L)
        self.optimizer = torch.optim.Adam(self.kernels.parameters(), lr=self.settings.rate, betas=(0.9, 0.98))

    def epoch(self, epoch: int) -> None:
        """One pass over what has come."""
        s, count = self.settings, self._come(epoch)
        new = not self.seen or count > self.seen[-1]
        if new:
            self.problem = self.whole.on(self.whole.windows.of(np.arange(count)))
        if s.objective == "posterior" and new:
            self._renew()
        for group in self.optimizer.param_groups:
            group["lr"] = s.rate * 0.03 ** (epoch / s.epochs)
        self.optimizer.zero_grad()
        loss = self._bound() if s.objective == "posterior" else self._huber()
        loss.backward()
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        self.seen.append(count)
        with torch.no_grad():
            self.history.append(_copy(self.kernels.mixture()))

    def _come(self, epoch: int) -> int:
        """Windows that have come; new ones come when kernels are put anew."""
        s, total = self.settings, len(self.whole.windows)
        groups = math.ceil(s.online * s.epochs / s.renew)
        return total if epoch // s.renew + 1 >= groups else math.ceil(total * (epoch // s.renew + 1) / groups)

    def _huber(self) -> Tensor:
        """The paper's loss of samples of the relaxed mixture."""
        s, mixture = self.settings, self.kernels.mixture()
        count = s.kernels * s.samples
        uniform = torch.rand(count, s.kernels, generator=self.generator, dtype=self.x0.dtype).clamp(1e-12, 1 - 1e-12)
        gamma = ((mixture.log_weights - (-uniform.log()).log()) / TEMPERATURE).softmax(-1)
        noise = torch.randn(count, s.kernels, len(self.x0), generator=self.generator, dtype=self.x0.dtype)
        each = mixture.means + (mixture.trils @ noise[..., None])[..., 0]
        r = self.problem.residuals((gamma[..., None] * each).sum(-2))
        return huber_loss(r, torch.zeros_like(r), delta=0.1)

    def _bound(self) -> Tensor:
        """Minus the evidence lower bound, a number of the windows; paths only, for the density's own numbers add noise alone
        (Roeder, Wu and Duvenaud 2017)."""
        s, mixture = self.settings, self.kernels.mixture()
        half = torch.randn(s.samples // 2 or 1, s.kernels, len(self.x0), generator=self.generator, dtype=self.x0.dtype)
        noise = torch.cat([half, -half])
        x = mixture.means + (mixture.trils @ noise[..., None])[..., 0]
        squares = self._squares(x)
        fit_ = -0.5 * squares / (self.noise**2 * self.inflation)
        prior = -0.5 * ((x - self.x0) / self.belief).square().sum(-1)
        held = Mixture(mixture.log_weights.detach(), mixture.means.detach(), mixture.trils.detach())
        gain = (fit_ + prior - held.log_prob(x)).mean(0)
        phi = mixture.log_weights.exp()
        self._update_noise(float((phi @ squares.mean(0)).detach()))
        return -(phi @ gain)

    def _squares(self, x: Tensor) -> Tensor:
        """(*batch) sum of squared residuals, without what better starts would explain."""
        r = self.problem.residuals(x, self.d).flatten(-2)
        if self.Q is not None:
            r = r - (self.Q @ (self.Q.mT @ r[..., None]))[..., 0]
        return r.square().sum((-1, -2))

    def _update_noise(self, squares: float) -> None:
        """The noise that the bound likes best, given the mixture: its spread already counts the free numbers."""
        w = self.problem.windows
        samples = w.periods if self.d is None else w.periods + 1
        count = len(w) * samples * w.target.shape[-1] - (0 if self.d is None else self.d[0].numel())
        self.noise = math.sqrt(squares / max(count, 1))

    def _renew(self) -> None:
        """Put each kernel, by the motion's derivatives, where a Newton step leads it, in coordinates in which the posterior is
        round there, and as wide as it is there. So it follows new windows at once, and Adam is left what is not Gaussian."""
        now, s = self.history[-1], self.settings
        found = [self._place(m) for m in now.means]
        origin, metric, d, Q, noise, inflation = (list(part) for part in zip(*found, strict=True))
        best = int(np.argmin(noise))
        self.noise, self.inflation = noise[best], inflation[best]
        self.d, self.Q = (torch.stack(d), torch.stack(Q)) if s.starts else (None, None)
        round_ = torch.eye(len(self.x0), dtype=self.x0.dtype).expand(s.kernels, -1, -1)
        self._set(now.log_weights, torch.stack(origin), torch.stack(metric), round_)

    def _place(self, x: Tensor) -> tuple:
        """A kernel's origin, metric, starts, directions of starts, noise and inflation, from x (P) on."""
        s, problem = self.settings, self.problem
        epochs = s.search if not self.seen else s.search // 4
        found = fit(
            problem, x, centre=self.x0, epochs=epochs, share=s.share, starts="estimate" if s.starts else "read", robust=False
        )
        r, J, Q = evidence.projected(problem, found.x, found.d)
        noise = math.sqrt(float(r.square().sum()) / max(r.numel() - Q[..., 0, :].numel() - len(x), 1))
        information, belief = (J.mT @ J).sum(0) / noise**2, self.belief**-2
        score = (J.mT @ r[..., None])[..., 0] / noise**2
        inflation = evidence.inflation(information, score, belief) if s.adjust else 1.0
        metric = torch.linalg.cholesky(torch.linalg.inv(information / inflation + torch.diag(belief)))
        return found.x, metric, found.d, Q, noise, inflation


def _copy(mixture: Mixture) -> Mixture:
    return Mixture(*(x.detach().clone() for x in (mixture.log_weights, mixture.means, mixture.trils)))
