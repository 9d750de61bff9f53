"""What of a scene the kernels need besides parameters: index arrays, and who is tested against whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samrl.model.physics.hulls import Hull, hull_of
from samrl.model.physics.points import templates
from samrl.model.scene import FIXED, FREE, MESH, PLANE, SPHERE, Params, Scene


@dataclass(frozen=True)
class Layout:
    """Index arrays for the kernels; `geoms` are those that take part in contact, and other indices refer to them.

    Attributes:
        geoms: (ng) indices into the scene's geoms; point_geom: (points) geom of each surface point.
        template: (points, 4, 6) surface points, see points.py.
        pairs: (np, 2) pairs that may touch; a probe is the points of one geom against another geom.
        ints, reals: arrays by their names in the kernels' Model.
        capacity: most contacts that an environment can have at once; passes: see kernels/solve.py;
            floating: whether bodies float alone, see kernels/grip.py.
    """

    geoms: np.ndarray
    point_geom: np.ndarray
    template: np.ndarray
    pairs: np.ndarray
    ints: dict[str, np.ndarray]
    reals: dict[str, np.ndarray]
    capacity: int
    passes: int
    floating: bool


def moving_links(scene: Scene) -> np.ndarray:
    """(nl) bool: links with a joint somewhere between them and the world."""
    moves = np.asarray(scene.joint_type) != FIXED
    moves[0] = False
    for i in range(1, len(moves)):
        moves[i] |= moves[scene.parent[i]]
    return moves


def make_layout(scene: Scene) -> Layout:
    """The layout of a scene."""
    moves = moving_links(scene)
    touching = [p for p in np.asarray(scene.pairs).reshape(-1, 2) if moves[scene.geom_link[p]].any()]
    geoms = np.unique(np.asarray(touching, dtype=int))
    pairs = np.searchsorted(geoms, np.asarray(touching, dtype=int).reshape(-1, 2))
    kinds = np.asarray(scene.geom_type)[geoms]
    links = np.asarray(scene.geom_link)[geoms]
    hulls = {n: hull_of(scene, int(g)) for n, g in enumerate(geoms) if kinds[n] == MESH}
    points = [hulls[n].templates() if n in hulls else templates(kind) for n, kind in enumerate(kinds)]
    counts = np.array([len(p) for p in points], dtype=int)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    probes = [probe for n, (a, b) in enumerate(pairs) for probe in _probes(n, a, b, kinds)]
    probe = np.asarray(probes, dtype=int).reshape(-1, 3)
    ends = links[probe[:, :2]].reshape(-1, 2)
    follower, leader, passes = _roles(scene, ends, moves)
    lone, probe_lone = _alone(scene, ends, follower)
    low, high = _limits(scene)
    sides = [hulls.get(n, Hull.none()) for n in range(len(geoms))]
    ints = {
        "hull_first": np.cumsum([0] + [len(hull.offsets) for hull in sides]),
        "parent": scene.parent, "joint_type": scene.joint_type, "q_adr": scene.q_adr, "v_adr": scene.v_adr,
        "nd": scene.nd, "moves": moves + lone.astype(int), "geom_link": links, "geom_type": kinds,
        "probe_geom": probe[:, 0], "probe_shape": probe[:, 1], "probe_pair": probe[:, 2],
        "probe_follower": follower, "probe_leader": leader, "probe_first": first[probe[:, 0]],
        "probe_last": first[probe[:, 0] + 1], "probe_lone": probe_lone,
    }  # fmt: skip
    reals = {
        "hull_normal": np.concatenate([np.zeros((0, 3)), *(hull.normals for hull in sides)]),
        "hull_offset": np.concatenate([np.zeros(0), *(hull.offsets for hull in sides)]),
        "axis": scene.axis, "q0": scene.q0, "gravcomp": scene.gravcomp, "limit_low": low, "limit_high": high,
        "probe_gain": np.where(moves[ends].all(1), 2.0, 1.0),
    }  # fmt: skip
    return Layout(
        geoms=geoms,
        point_geom=np.repeat(np.arange(len(geoms)), counts),
        template=np.concatenate([np.zeros((0, 4, 6)), *points]),
        pairs=pairs,
        ints=ints,
        reals=reals,
        capacity=int(counts[probe[:, 0]].sum()),
        passes=passes,
        floating=bool(lone.any()),
    )


def _roots(scene: Scene, moves: np.ndarray) -> np.ndarray:
    """(nl) first moving link between the world and each link; 0 for what cannot move."""
    root = np.zeros(len(moves), dtype=int)
    for i in range(1, len(moves)):
        above = root[scene.parent[i]]
        root[i] = above if above else (i if moves[i] else 0)
    return root


def _roles(scene: Scene, ends: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Who follows and who leads in each probe's contact, and how many storeys that makes.

    Of two bodies that move independently, a floating one follows one that is held by joints (an object follows the arm),
    and of two alike the later in the scene follows. -1 where there are no such roles.
    """
    root = _roots(scene, moves)
    rank = [(scene.joint_type[r] == FREE, r) for r in root]
    follower, leader = np.full(len(ends), -1), np.full(len(ends), -1)
    above: dict[int, set[int]] = {}
    for n, (a, b) in enumerate(ends):
        if root[a] and root[b] and root[a] != root[b]:
            follower[n], leader[n] = (a, b) if rank[a] > rank[b] else (b, a)
            above.setdefault(root[follower[n]], set()).add(root[leader[n]])

    def storeys(r: int) -> int:
        return max((1 + storeys(x) for x in above.get(r, ())), default=0)

    return follower, leader, max((storeys(r) for r in above), default=0)


def _alone(scene: Scene, ends: np.ndarray, follower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(nl) bool: links in contact that float in the world with nothing on them; (probes) such a link if it takes the contact's
    implicit term, or -1."""
    parent, link = np.asarray(scene.parent), np.arange(len(scene.parent))
    lone = (np.asarray(scene.joint_type) == FREE) & (parent == 0) & ~np.isin(link, parent) & np.isin(link, ends)
    owner = np.where(follower >= 0, follower, np.where(lone[ends], ends, -1).max(1, initial=-1))
    return lone, np.where(lone[owner], owner, -1)


def _probes(pair: int, a: int, b: int, kinds: np.ndarray) -> list[tuple[int, int, int]]:
    """(geom with points, geom with distance, pair): both ways, but a sphere's centre is exact and needs no return."""
    if kinds[a] == SPHERE:
        return [(a, b, pair)]
    if kinds[b] == SPHERE:
        return [(b, a, pair)]
    return [(p, s, pair) for p, s in ((a, b), (b, a)) if kinds[p] != PLANE]


def _limits(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """(nv) lower and upper limits; far away where there is none (an infinity would make 0 · inf in the ramp)."""
    limited = np.asarray(scene.limited, dtype=bool)
    limit = np.asarray(scene.limit, dtype=float).reshape(-1, 2)
    return np.where(limited, limit[:, 0], -1e9), np.where(limited, limit[:, 1], 1e9)


class ContactLeaves:
    """Parameters of contact as the kernels take them, from Params by differentiable torch operations.

    A pair has the geometric mean of its geoms' frictions, the harmonic mean of their stiffnesses (two springs in a row,
    scaled so that equal values stay) and the arithmetic mean of their dampings.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: str) -> None:
        index = lambda a: torch.as_tensor(np.asarray(a, dtype=np.int64), device=device)  # noqa: E731
        self.geoms = index(layout.geoms)
        self.point_geom = index(layout.point_geom)
        self.pairs = index(layout.pairs)
        self.template = torch.as_tensor(layout.template, dtype=dtype, device=device)

    def __call__(self, params: Params) -> dict[str, Tensor]:
        """geom_p, geom_R, geom_size (*batch, ng, ·) of the geoms in contact; bound (*batch, ng); point (*batch, n, 3)
        and point_radius (*batch, n); pair_friction, pair_stiffness, pair_damping (*batch, np)."""
        p, R = params.geom_p.index_select(-2, self.geoms), params.geom_R.index_select(-3, self.geoms)
        size = params.geom_size.index_select(-2, self.geoms)
        local = (self.template @ size.index_select(-2, self.point_geom)[..., None]).squeeze(-1)
        rotated = (R.index_select(-3, self.point_geom) @ local[..., :3, None]).squeeze(-1)
        leaves = {"geom_p": p, "geom_R": R, "geom_size": size, "point_radius": local[..., 3]}
        leaves["point"] = p.index_select(-2, self.point_geom) + rotated
        leaves["bound"] = self._bound(local.detach())
        a, b = self.pairs[:, 0], self.pairs[:, 1]
        at = lambda leaf, i: leaf.index_select(-1, self.geoms).index_select(-1, i)  # noqa: E731
        mu, k, c = params.friction, params.contact_stiffness, params.contact_damping
        leaves["pair_friction"] = (at(mu, a) * at(mu, b) + 1e-12).sqrt()
        leaves["pair_stiffness"] = 2 * at(k, a) * at(k, b) / (at(k, a) + at(k, b))
        leaves["pair_damping"] = (at(c, a) + at(c, b)) / 2
        return leaves

    def _bound(self, local: Tensor) -> Tensor:
        """(*batch, ng) radius of a ball around the geom's origin that holds its points, from local (*batch, n, 4)."""
        far = local[..., :3].norm(dim=-1) + local[..., 3]
        out = far.new_zeros(*far.shape[:-1], len(self.geoms))
        return out.scatter_reduce(-1, self.point_geom.expand(far.shape), far, "amax")
