"""What the rasterizer's kernels share: the arrays of a surface and of a pass, planes over the image, and lists of faces.

Triangles are set up homogeneously (Olano and Greer 1997, "Triangle Scan Conversion using 2D Homogeneous Coordinates"): with
vertices h_k = (x z, y z, z), the weights w = [h_0 h_1 h_2]^-1 (x, y, 1) are linear in the pixel, w_k = (barycentric k) / z,
and their sum is 1/z. Nothing is clipped: a triangle that reaches behind the camera needs no special case.

Pixel (x, y) of an image reaches from (x, y) to (x + 1, y + 1). Faces are seen from outside only.
"""

# mypy: ignore-errors

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})

Narrow = wp.types.vector(length=5, dtype=wp.float32)  # middle x, y, and three entries of a symmetric matrix, see `shading`
Setup = wp.types.vector(length=11, dtype=wp.float32)  # three planes (a, b, c) of w_k = a dx + b dy + c, and their origin

# how a face is seen, in bits: not at all, from outside, without area, narrower than below, reaching nearer than is drawn
BACK, FRONT, DEGENERATE, NARROW, CLIPPED = wp.constant(0), wp.constant(1), wp.constant(2), wp.constant(4), wp.constant(8)
VERTICES, CORNERS = wp.constant(1), wp.constant(2)  # bits: what of a face wants a gradient
# what colours jump across; 0: nothing. OUTLINE: a face's edge with something else behind, SEAM: an edge of two faces that are
# both seen, BORDER: one where the surface ends; CURVE: where two faces pass through each other, NEAR: where
# a face is cut off, too near
OUTLINE, SEAM, BORDER, CURVE, NEAR = wp.constant(1), wp.constant(2), wp.constant(3), wp.constant(4), wp.constant(5)
LOW = wp.constant(wp.int64(0xFFFFFFFF))
UNMARKED, EMPTY = wp.constant(0), wp.constant(1)  # of a pixel's list; what is greater points at a node
NARROW_WIDTH = wp.constant(1.0)  # across faces narrower than this slopes of colour and 1/z are damped [pixels]
NARROW_TEXTURED = wp.constant(1.5)  # the same where there is a texture: colours then change more from corner to corner
DAMPING = wp.constant(0.5)  # of those slopes [pixels squared]
THIN = wp.constant(1.0e-3)  # faces and gaps narrower than this do not count [pixels]
INSIDE = wp.constant(2.5e-4)  # what hides an edge is looked up so far on its inner side [pixels]
ITSELF = wp.constant(1.00005)  # a part's faces hide one another if nearer by this factor: beside a sliver is its neighbour [1]
OUTSIDE = wp.constant(1.5e-3)  # and what is behind it so far on its outer side: beyond a face that does not count [pixels]


@wp.struct
class Surface:
    """Topology: faces, corners (F); edges and edge_corners (E), the halves of `meshes.Mesh.edges`; of each face its mask bits,
    the convex solid that it belongs to, -1 for none, its part, and whether that moves (F); uv (3 F): where in the texture the
    corners of each face lie, none if there is no texture."""

    faces: wp.array(dtype=wp.vec3i)
    corners: wp.array(dtype=wp.vec3i)
    edges: wp.array(dtype=wp.vec4i)
    edge_corners: wp.array(dtype=wp.vec4i)
    bits: wp.array(dtype=int)
    convex: wp.array(dtype=int)
    part: wp.array(dtype=int)
    moves: wp.array(dtype=int)
    uv: wp.array(dtype=wp.vec2)


@wp.struct
class Frame:
    """One image and what its passes leave. Pixel arrays go row by row: pixel (x, y) is entry y width + x.

    h (V), shade (C): projected vertices, lit corners; setup, facing (F); narrow (F), of narrow faces: see `Narrow`;
    zbuffer (H W).
    lists (H W): of each pixel in which its centre does not tell all, the faces that meet it, as the first node; nodes (N): face,
    its convex solid, its part, next. marked: the pixels that have a list.
    sides, runs, ends (E): of each edge that is on the image and at which colours may jump, in any order, what `edge_sides`,
    `edge_line` and `edge_depths` say.
    pieces (P): inner face, outer face or -1, kind, pixel; lines (P): their ends x0, y0, x1, y1, the inner face on the left of one
    who goes along (with y down). used: how many nodes, pieces, marked pixels and edges there are.
    color, depth, masks (M times H W), links: the image; g_ …: gradients by it, and by h, shade and texture.
    texture, row by row, of texture_width by texture_height texels, by which lit colours are multiplied.
    width, height, mask_count; background colour; near distance [m]; whether `depth` is the mean of 1/z over a pixel or the depth
    at its centre; whether vertices move freely: then edges between faces that are shaded alike count too, so that each face has
    its exact area.
    """

    h: wp.array(dtype=wp.vec3)
    shade: wp.array(dtype=wp.vec3)
    setup: wp.array(dtype=Setup)
    facing: wp.array(dtype=int)
    narrow: wp.array(dtype=Narrow)
    zbuffer: wp.array(dtype=wp.int64)
    lists: wp.array(dtype=int)
    marked: wp.array(dtype=int)
    nodes: wp.array(dtype=wp.vec4i)
    sides: wp.array(dtype=wp.vec4i)
    runs: wp.array(dtype=wp.vec4)
    ends: wp.array(dtype=wp.vec2)
    pieces: wp.array(dtype=wp.vec4i)
    lines: wp.array(dtype=wp.vec4)
    used: wp.array(dtype=int)
    color: wp.array(dtype=wp.vec3)
    depth: wp.array(dtype=float)
    masks: wp.array(dtype=float)
    links: wp.array(dtype=int)
    g_color: wp.array(dtype=wp.vec3)
    g_depth: wp.array(dtype=float)
    g_masks: wp.array(dtype=float)
    g_h: wp.array(dtype=wp.vec3)
    g_shade: wp.array(dtype=wp.vec3)
    texture: wp.array(dtype=wp.vec3)
    g_texture: wp.array(dtype=wp.vec3)
    texture_width: int
    texture_height: int
    width: int
    height: int
    mask_count: int
    background: wp.vec3
    near: float
    mean_depth: int
    free: int


# by reference: a surface, as an array of one, and an image of the batch each
Surfaces = wp.array(dtype=Surface)
Frames = wp.array(dtype=Frame)


@wp.func
def weights(t: Setup, x: float, y: float) -> wp.vec3:
    """w_k = (barycentric k) / z at (x, y)."""
    dx = x - t[9]
    dy = y - t[10]
    return wp.vec3(t[0] * dx + t[1] * dy + t[2], t[3] * dx + t[4] * dy + t[5], t[6] * dx + t[7] * dy + t[8])


@wp.func
def inverse_depth(t: Setup, x: float, y: float) -> float:
    w = weights(t, x, y)
    return w[0] + w[1] + w[2]


@wp.func
def inverse_depth_slope(t: Setup) -> wp.vec2:
    return wp.vec2(t[0] + t[3] + t[6], t[1] + t[4] + t[7])


@wp.func
def mask_bits(surface: Surfaces, f: int) -> int:
    if f < 0:
        return 0
    return surface[0].bits[f]


@wp.func
def has_one_colour(surface: Surfaces, f: int) -> bool:
    k = surface[0].corners[f]
    return k[0] == k[1] and k[1] == k[2] and surface[0].uv.shape[0] == 0


@wp.func
def face_at(zbuffer: wp.array(dtype=wp.int64), pixel: int) -> int:
    """Nearest face at a pixel's centre, -1 where there is none."""
    return int(zbuffer[pixel] & LOW) - 1
