"""Pictures to try things on: one photograph, and BCCD, 364 photographs of blood cells.

BCCD is found on this machine or downloaded once.

A download counts only when every file of it is as it was when the book was written: the
digest of the content is compared, and until then nothing lies where the next call would
find it.
"""

import hashlib
import os
import shutil
import tempfile
import urllib.request
import zipfile
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError

from platformdirs import user_cache_path

from rpn_lib.data.images import read_image
from rpn_lib.data.problems import leaves_folder
from rpn_lib.data.progress import Bar, bar
from rpn_lib.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def example_photo() -> tuple["Tensor", dict[str, tuple[int, int, int, int]]]:
    """The photograph of the book, Rear Admiral Grace Hopper, and seven true boxes.

    The picture is in the public domain and comes with matplotlib; the boxes were read
    off it by hand.

    Returns:
        `(3, 600, 512)`, uint8, and for each object its name and box, xyxy, pixels.

    >>> photo, objects = example_photo()
    >>> tuple(photo.shape), objects["cap"]
    ((3, 600, 512), (148, 22, 372, 182))
    """
    sample_data = files("matplotlib") / "mpl-data" / "sample_data"
    photo = read_image(Path(str(sample_data / "grace_hopper.jpg")))
    return photo, {
        "cap": (148, 22, 372, 182),
        "face": (155, 130, 377, 335),
        "glasses": (178, 168, 358, 232),
        "name tag": (78, 484, 168, 518),
        "ribbons": (322, 487, 453, 527),
        "button": (232, 576, 260, 600),
        "star": (46, 56, 88, 117),
    }


COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"


URL = f"https://github.com/Shenggan/BCCD_Dataset/archive/{COMMIT}.zip"


DIGEST = "debd2d76b13c300a3999f96a08cbe9ada5f231c3f882f9877a65a01a695872d1"


PARTS = ("JPEGImages", "Annotations", "ImageSets")


MAX_BYTES = 100_000_000  # of the archive, and of what it unpacks to; BCCD has 10 MB


def bccd(
    cache: str | Path | None = None,
    *,
    url: str = URL,
    digest: str = DIGEST,
    progress: bool = True,
) -> Path:
    """The folder of the BCCD data set, in Pascal-VOC format.

    It is looked for in `$RPN_DATA/BCCD`, which is used as it is, then in the user's
    cache, and downloaded there (8 MB) if it is in neither.

    Args:
        cache: where downloads are kept; the user's own cache folder if not given.
        url: a zip archive with a folder `BCCD`.
        digest: the `content_digest` that the data set must have.
        progress: show a bar.

    Returns:
        a folder for `open_folder`; splits `train`, `val` and `test`.

    Raises:
        DataError: no network, or an archive with other content. What an interrupted or
            refused download leaves is removed.
    """
    there = find_bccd(cache, digest=digest)
    if there is not None:
        return there
    folder = _kept(cache)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as temp:
            archive = Path(temp) / "archive.zip"
            _fetch(url, archive, progress)
            unpacked = _unpack(archive, Path(temp) / "unpacked")
            found = content_digest(unpacked)
            if found != digest:
                raise DataError(
                    f"{url} is not the BCCD that this book was written with: its "
                    f"content has the digest {found}, not {digest}. Nothing was kept."
                )
            try:
                unpacked.replace(folder)
            except OSError:  # another process was quicker
                if not folder.is_dir() or content_digest(folder) != digest:
                    raise
    except (OSError, HTTPException, zipfile.BadZipFile) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise DataError(
            f"BCCD could not be downloaded from {url} to {folder}: {error}. Check the "
            "network and the free disk space and try again; or unpack a copy and set "
            "RPN_DATA to the folder that holds its folder BCCD."
        ) from error
    return folder


def find_bccd(cache: str | Path | None = None, *, digest: str = DIGEST) -> Path | None:
    """The folder of BCCD on this machine, as `bccd` finds it; nothing is downloaded.

    Args:
        cache: where downloads are kept; the user's own cache folder if not given.
        digest: the `content_digest` that the data set must have.

    Returns:
        the folder; `None` where the data set is not here.

    Raises:
        DataError: a download that was changed later.
    """
    given = os.environ.get("RPN_DATA")
    if given and (Path(given) / "BCCD" / "JPEGImages").is_dir():
        return Path(given) / "BCCD"
    folder = _kept(cache)
    if not folder.is_dir():
        return None
    if content_digest(folder) != digest:
        raise DataError(
            f"{folder} is not as it was downloaded: a file is missing, added or "
            "changed. Remove the folder, and it will be downloaded anew."
        )
    return folder


def content_digest(folder: str | Path) -> str:
    """SHA-256 over the lines that `sha256sum` prints for a data set's files, sorted.

    Args:
        folder: holds JPEGImages, Annotations and ImageSets; other files do not count.

    >>> content_digest("nowhere")[:8]
    'e3b0c442'
    """
    folder = Path(folder)
    lines = []
    for part in PARTS:
        for path in (folder / part).rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                lines.append((name, hashlib.sha256(path.read_bytes()).hexdigest()))
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(cache: str | Path | None) -> Path:
    return (Path(cache) if cache is not None else user_cache_path("rpn_lib")) / "BCCD"


def _fetch(url: str, path: Path, progress: bool) -> None:
    """Download to a file; an `OSError` where it ends too early."""
    with (
        urllib.request.urlopen(url, timeout=30) as response,
        path.open("wb") as file,
    ):
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        if total is not None and total > MAX_BYTES:
            raise OSError(f"it has {total:,} bytes, far more than BCCD")
        shown: Bar[object] = bar(
            show=progress, total=total, unit="B", unit_scale=True, desc="BCCD"
        )
        with shown:
            done = 0
            while block := response.read(2**16):
                done += len(block)
                if done > MAX_BYTES:
                    raise OSError("it has far more bytes than BCCD")
                file.write(block)
                shown.update(len(block))
        if total is not None and done < total:
            raise OSError(f"the connection ended after {done:,} of {total:,} bytes")


def _unpack(archive: Path, folder: Path) -> Path:
    """Take the folder BCCD out of an archive, and nothing that would land elsewhere."""
    with zipfile.ZipFile(archive) as opened:
        if sum(info.file_size for info in opened.infolist()) > MAX_BYTES:
            raise OSError("it unpacks to far more bytes than BCCD has")
        for info in opened.infolist():
            if leaves_folder(info.filename):
                raise OSError(f"it holds {info.filename!r}, outside of its folder")
            parts = Path(info.filename).parts
            if "BCCD" not in parts or info.is_dir():
                continue
            inside = parts[parts.index("BCCD") + 1 :]
            if inside and inside[0] in PARTS:
                target = folder.joinpath(*inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    if not folder.is_dir():
        raise OSError("it holds no folder BCCD")
    return folder
