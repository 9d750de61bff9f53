"""What is wrong with a scan is said in a sentence."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scans import make_scan

from samrl import cli
from samrl.core.errors import ScanError
from samrl.real2sim import tsdf
from samrl.real2sim.scan import read_scan


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan") / "good"
    make_scan(folder, views=6)
    return folder


def change_depth(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.glob("*.depth.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def change_poses(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.glob("*.pose.txt"):
        np.savetxt(path, change(np.loadtxt(path)))


def remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def wider(folder: Path) -> None:
    Image.new("RGB", (640, 480)).save(folder / "frame-000002.color.png")


def words(path: Path) -> None:
    path.write_text("not a number")


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "no frames": (lambda f: remove(f, "*.depth.png"), "holds no frames"),
    "no poses": (lambda f: remove(f, "*.pose.txt"), "6 of 6 frames of .* have no pose.*Poses are not estimated"),
    "one pose missing": (lambda f: remove(f, "*3.pose.txt"), "1 of 6 frames .* the first being frame-000003"),
    "no colour": (lambda f: remove(f, "*4.color.png"), "frame-000004 of .* has no colour"),
    "no intrinsics": (lambda f: remove(f, "camera*"), "there are no intrinsics"),
    "intrinsics of another kind": (lambda f: np.savetxt(f / "camera-intrinsics.txt", [1.0, 2.0]), "intrinsics, 3 x 3"),
    "a pose of words": (lambda f: words(f / "frame-000000.pose.txt"), "not a number"),
    "poses that are scaled": (lambda f: change_poses(f, lambda X: X * [[2], [2], [2], [1]]), "no rigid transform"),
    "poses that mirror": (lambda f: change_poses(f, lambda X: X @ np.diag([1, -1, 1, 1])), "no rigid transform"),
    "poses of the world in the camera": (lambda f: change_poses(f, np.linalg.inv), "world to camera"),
    "sizes that differ": (wider, "640 x 480 pixels where .* 320 x 240"),
    "depth in 8 bit": (lambda f: change_depth(f, lambda d: (d // 16).astype(np.uint8)), "image of kind 'L'.*16 bit"),
    "depth in tenths of millimetres": (
        lambda f: change_depth(f, lambda d: (10 * d.astype(int)).clip(0, 65534).astype(np.uint16)),
        r"wrong unit: read as 1000 a metre.*--depth-scale 10000",
    ),
    "depth in fifths of millimetres": (
        lambda f: change_depth(f, lambda d: (5 * d.astype(int)).clip(0, 65534).astype(np.uint16)), "--depth-scale 5000",
    ),
    "depth in metres": (lambda f: change_depth(f, lambda d: (d / 1000).astype(np.uint16)), "wrong unit.*median is 0.001 m"),
    "depth without readings": (lambda f: change_depth(f, np.zeros_like), "holds a reading"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str, good: Path, tmp_path: Path) -> None:
    folder, (spoil, sentence) = tmp_path / "scan", BAD[name]
    shutil.copytree(good, folder)
    assert len(read_scan(folder).frames) == 6
    spoil(folder)
    with pytest.raises(ScanError) as error:
        read_scan(folder)
    assert re.search(sentence, str(error.value)) and str(error.value).endswith("."), str(error.value)


def test_depth_in_another_unit_is_read_as_it_is_said_to_be(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(good, folder)
    before = read_scan(folder).frames[0].depth()
    change_depth(folder, lambda d: (5 * d.astype(int)).clip(0, 65535).astype(np.uint16))
    assert np.allclose(read_scan(folder, 5000.0).frames[0].depth(), before, atol=1e-6)
    change_depth(folder, lambda d: np.where(np.arange(d.size).reshape(d.shape) % 2, d, 65535).astype(np.uint16))
    assert not read_scan(folder, 5000.0).frames[0].depth()[:, ::2].any(), "65535 is taken for a reading"


def test_voxels_grow_until_they_fit_unless_they_were_asked_for(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = read_scan(good)
    before = tsdf.default_voxel(scan, 4.0)
    monkeypatch.setattr(tsdf, "MAX_BLOCKS", 1000)
    after = tsdf.default_voxel(scan, 4.0)
    assert after > before
    assert len(tsdf.fuse(scan, after, 4.0).faces) > 1000
    with pytest.raises(ScanError, match=r"voxels of 2 mm are too many for this scene; --voxel 0\.003 \(metres\) may do"):
        tsdf.fuse(scan, 0.002, 4.0)
    with pytest.raises(ScanError, match=r"no frame has a reading up to 0\.1 m; a larger --max-depth"):
        tsdf.default_voxel(scan, 0.1)


@pytest.mark.parametrize(
    "options, status, sentence",
    [
        ("{none} -o {out}/a.xml", 1, "there is no folder"),
        ("{good} -o {out}/a.obj", 2, "is no MJCF file"),
        ("{good} -o {out}/a.xml --voxel 0", 2, "--voxel 0 cannot be"),
        ("{good} -o {out}/a.xml --max-depth -1", 2, "--max-depth -1 cannot be"),
        ("{good} -o {out}/a.xml --pieces 0", 2, "--pieces 0 is too low"),
        ("{good} -o {out}/a.xml --hold-out 1", 1, "--hold-out 1 leaves no frames"),
        ("{good} -o {out}/a.xml --hold-out 7", 1, "--hold-out 7 holds out none of 6 frames"),
        ("{good} -o {out}/a.xml --depth-scale 5000", 1, "wrong unit"),
    ],
)
def test_the_command_says_what_is_wrong(
    options: str, status: int, sentence: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options.format(none=tmp_path / "none", good=good, out=tmp_path).split()
    assert cli.main(["reconstruct", *given]) == status
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from samrl.real2sim import reconstruct

    find = reconstruct.importlib.util.find_spec
    monkeypatch.setattr(reconstruct.importlib.util, "find_spec", lambda n, *a: None if n == "coacd" else find(n, *a))
    with pytest.raises(ScanError, match=r"needs coacd, not installed; pip install 'samrl\[scan\]'"):
        reconstruct.reconstruct(good)
