"""The cache: what is in it, who builds it, and all that can go wrong on the way."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from pictures_on_disk import encode, faces, pixels, write_folder, write_zip
from vae.checks import ConfigError
from vae.data import cache_file
from vae.data.cache import ImageCache
from vae.data.cache_file import DamagedCacheError, open_cache
from vae.data.decode import Transform
from vae.data.decode_all import decode_all
from vae.data.image_files import FolderFiles, ImageFiles, ZipFiles

SMALL = Transform(3, 16, 16, crop=140)
FACES = faces(5)


def _cache(folder: Path, on_bad: str = "error", transform: Transform = SMALL, name: str = "set") -> ImageCache:
    files = FolderFiles(folder / "images", sorted(os.listdir(folder / "images")))
    return ImageCache(folder / "cache", name, files, transform, on_bad)


def _left_in(folder: Path) -> list[str]:
    """What is in the cache folder, but for locks."""
    return [file.name for file in folder.iterdir() if file.suffix != ".lock"] if folder.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "images", FACES)
    return tmp_path


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")
def test_holds_the_transformed_images_in_order(folder: Path) -> None:
    cached = _cache(folder).open()
    assert torch.equal(cached.images, torch.stack([SMALL(FACES[name]) for name in sorted(FACES)]))
    assert cached.rows.tolist() == [0, 1, 2, 3, 4]
    assert cached.left_out == []


def test_folder_and_zip_give_the_same(folder: Path) -> None:
    path = write_zip(folder / "images.zip", {f"some/where/{name}": content for name, content in FACES.items()})
    zipped = ImageCache(folder / "cache", "set", ZipFiles(path, sorted(FACES)), SMALL).open()
    assert torch.equal(zipped.images, _cache(folder).open().images)


def test_order_does_not_depend_on_the_threads(folder: Path) -> None:
    files = FolderFiles(folder / "images", sorted(FACES) * 100)
    one, many = ([image for _, image in decode_all(files, SMALL, threads)] for threads in (1, 7))
    assert len(one) == 500
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))  # type: ignore[arg-type]


def test_decoding_leaves_the_number_of_torch_threads(folder: Path) -> None:
    before = torch.get_num_threads()
    _cache(folder).open()
    assert torch.get_num_threads() == before


def test_is_built_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _cache(folder).open()
    assert "decoded 5 images" in capsys.readouterr().err
    _cache(folder).open()
    assert capsys.readouterr().err == ""


def test_key_follows_files_and_transform(folder: Path) -> None:
    keys = [_cache(folder).key, _cache(folder, transform=SMALL._replace(crop=100)).key]
    (folder / "images" / "000001.jpg").write_bytes(encode(pixels(99)))
    keys.append(_cache(folder).key)
    (folder / "images" / "new.jpg").write_bytes(encode(pixels(99)))
    keys.append(_cache(folder).key)
    assert len(set(keys)) == 4
    assert _cache(folder).key == keys[-1]


def test_no_copy_and_no_write_to_the_file(folder: Path) -> None:
    """The map is private: what a caller does to the tensor does not reach the disk."""
    cache = _cache(folder)
    cache.open().images.zero_()
    assert cache.open().images.float().mean() > 10


@pytest.mark.parametrize("position", [0, 1000, -1, -5, -30])
def test_a_flipped_byte_is_found_and_repaired(
    folder: Path, position: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = _cache(folder)
    images = cache.open().images.clone()
    content = bytearray(cache.path.read_bytes())
    content[position] ^= 1
    cache.path.write_bytes(content)
    with pytest.raises(DamagedCacheError):
        open_cache(cache.path, cache.key, verify=True)
    capsys.readouterr()
    assert torch.equal(cache.open().images, images)
    message = capsys.readouterr().err
    assert str(cache.path) in message
    assert "building it anew" in message


def test_every_block_has_a_checksum(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end within images, so that the checksums of writer and reader are cut the same way."""
    monkeypatch.setattr(cache_file, "BLOCK", 1000)
    cache = _cache(folder)
    cache.open()
    content = cache.path.read_bytes()
    for position in (999, 1000, 2500, 5 * 768 - 1):
        damaged = bytearray(content)
        damaged[position] ^= 128
        cache.path.write_bytes(damaged)
        with pytest.raises(DamagedCacheError, match="checksum"):
            open_cache(cache.path, cache.key, verify=True)
    cache.path.write_bytes(content)
    open_cache(cache.path, cache.key, verify=True)


@pytest.mark.parametrize("length", [0, 5, 1000, 5 * 768, -1])
def test_a_cut_file_is_found_and_repaired(folder: Path, length: int) -> None:
    cache = _cache(folder)
    images = cache.open().images.clone()
    cache.path.write_bytes(cache.path.read_bytes()[:length])
    with pytest.raises(DamagedCacheError):
        open_cache(cache.path, cache.key, verify=False)
    assert torch.equal(cache.open().images, images)


def test_a_cache_of_another_key_is_not_used(folder: Path) -> None:
    cache = _cache(folder)
    cache.open()
    with pytest.raises(DamagedCacheError, match="something else"):
        open_cache(cache.path, "other", verify=False)


BAD = {
    "cut.jpg": (FACES["000001.jpg"][:-200], "damaged or truncated JPEG"),
    "empty.jpg": (b"", "an empty file"),
    "small.jpg": (encode(pixels(0, 50, 60)), "60×50 pixels, less than the crop of 140×140"),
    "text.jpg": (b"<html>", "not an image of a format that is read .*"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_image_is_an_error_that_leaves_nothing(folder: Path, name: str) -> None:
    write_folder(folder / "images", {name: BAD[name][0]})
    with pytest.raises(ConfigError, match=rf"1 of the 6 images in .*{name} \({BAD[name][1]}\); data.on_bad=skip"):
        _cache(folder).open()
    assert _left_in(folder / "cache") == []


def test_bad_images_are_counted_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _cache(folder).open().images.clone()
    write_folder(folder / "images", {name: content for name, (content, _) in BAD.items()})
    capsys.readouterr()
    cached = _cache(folder, on_bad="skip").open()
    assert torch.equal(cached.images, good)
    assert cached.rows.tolist() == [0, 1, 2, 3, 4]
    assert [name for name, _ in cached.left_out] == sorted(BAD)
    said = capsys.readouterr().err
    assert "data.on_bad=skip: 4 of the 9 images" in said
    assert said.count("cannot be used") == 1
    with pytest.raises(ConfigError, match=r"data.on_bad=error: 4 of the 9 images"):
        _cache(folder, on_bad="error").open()


def test_left_out_images_keep_the_rows_of_the_others(folder: Path) -> None:
    (folder / "images" / "000002.jpg").write_bytes(b"broken")
    cached = _cache(folder, on_bad="skip").open()
    assert cached.rows.tolist() == [0, 2, 3, 4]
    assert len(cached.images) == 4


def test_only_bad_images(folder: Path) -> None:
    write_folder(folder / "images", dict.fromkeys(FACES, b"broken"))
    with pytest.raises(ConfigError, match=r"^5 of the 5 images"):
        _cache(folder, on_bad="skip").open()
    assert _left_in(folder / "cache") == []


def _listing(folder: Path, kind: str, names: list[str]) -> ImageFiles:
    if kind == "folder":
        return FolderFiles(folder / "images", names)
    return ZipFiles(write_zip(folder / "images.zip", FACES), names)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_missing_images_are_counted_and_named(folder: Path, kind: str) -> None:
    files = _listing(folder, kind, [*sorted(FACES), "a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    error = r"4 of the 9 images .*: a.jpg \(missing\), b.jpg \(missing\), c.jpg \(missing\), …;"
    with pytest.raises(ConfigError, match=error):
        ImageCache(folder / "cache", "set", files, SMALL).open()
    assert len(ImageCache(folder / "cache", "set", files, SMALL, "skip").open().images) == 5


def test_huge_files_are_not_read(folder: Path) -> None:
    with (folder / "images" / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"huge.jpg \(1,099,511,627,776 bytes, more than"):
        _cache(folder).open()


@pytest.mark.parametrize(
    "name", ["/etc/image.jpg", "../image.jpg", "a/../../image.jpg", "..\\image.jpg", "C:/image.jpg"]
)
def test_zip_with_names_outside_of_it(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "images.zip", FACES | {name: b""})
    with pytest.raises(ConfigError, match=r"images.zip: refused"):
        ImageCache(tmp_path / "cache", "set", ZipFiles(path, sorted(FACES)), SMALL).open()


def test_damaged_zips(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "images.zip", FACES)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ConfigError, match=r"images.zip: not a readable zip"):
        ImageCache(tmp_path / "cache", "set", ZipFiles(path, sorted(FACES)), SMALL).open()
    path.write_bytes(content[:2000] + bytes(100) + content[2100:])
    with pytest.raises(ConfigError, match=r"000001.jpg \(cannot be read from the zip: Bad CRC-32"):
        ImageCache(tmp_path / "cache", "set", ZipFiles(path, sorted(FACES)), SMALL).open()


def test_folder_that_cannot_be(folder: Path) -> None:
    (folder / "cache").write_text("a file")
    with pytest.raises(ConfigError, match=r"paths.cache=.*cache: cannot write set-.*CACHE_DIR"):
        _cache(folder).open()


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "Read-only file system"), NotImplementedError("no locks")])
def test_folder_without_writing_or_locks(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vae.data.cache.FileLock.acquire", refuse)
    with pytest.raises(ConfigError, match=r"cache=.*\((Read-only file system|no locks)\); choose another"):
        _cache(folder).open()


def test_existing_cache_needs_no_right_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cache(folder).open()
    monkeypatch.setattr("vae.data.cache.FileLock", None)
    assert len(_cache(folder).open().images) == 5


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the reservation already, before anything is decoded, and nothing is left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"paths.cache=.*\(File too large\)"):
            _cache(folder).open()
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        with pytest.raises(ConfigError, match=r"paths.cache=.*\(File too large\)"):
            _cache(folder).open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _left_in(folder / "cache") == []
    assert len(_cache(folder).open().images) == 5


PROGRAM = """
import signal, sys, time
# A job that a shell started in the background inherits that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from vae.data import cache
from vae.data.decode import Transform
from vae.data.image_files import FolderFiles
folder, pause = Path(sys.argv[1]), sys.argv[2]
files = FolderFiles(folder / "images", sorted(f.name for f in (folder / "images").iterdir()))
decode_all = cache.decode_all
def slowly(*arguments):
    for decoded in decode_all(*arguments):
        while pause == "until told" and not (folder / "go").exists():
            time.sleep(0.01)
        time.sleep(0 if pause == "until told" else float(pause))
        yield decoded
cache.decode_all = slowly
print(cache.ImageCache(folder / "cache", "set", files, Transform(3, 16, 16, crop=140)).open().images.sum().item())
"""


def _start(folder: Path, pause: float | str) -> subprocess.Popen[str]:
    environment: Mapping[str, str] = os.environ | {"PYTHONPATH": str(Path(cache_file.__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    STARTED.append(process)
    return process


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def _wait_for_partial(folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob("cache/*.partial")):
        assert time.monotonic() < deadline, "the build never began"
        time.sleep(0.01)


def test_many_processes_build_once(folder: Path) -> None:
    processes = [_start(folder, "until told")]
    _wait_for_partial(folder)
    processes += [_start(folder, 0), _start(folder, 0)]
    for process in processes[1:]:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for another process")
    (folder / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    errors = "".join(error for _, error in outputs)
    assert errors.count("decoded 5 images") == 1
    assert len({output for output, _ in outputs}) == 1
    assert len(_left_in(folder / "cache")) == 1


def test_a_killed_build_is_begun_anew(folder: Path) -> None:
    killed = _start(folder, 30)
    _wait_for_partial(folder)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert _left_in(folder / "cache")[0].endswith(".partial")
    assert len(_cache(folder).open().images) == 5
    assert len(_left_in(folder / "cache")) == 1


def test_an_interrupted_build_leaves_nothing(folder: Path) -> None:
    interrupted = _start(folder, 30)
    _wait_for_partial(folder)
    time.sleep(0.2)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=60)
    assert _left_in(folder / "cache") == []
