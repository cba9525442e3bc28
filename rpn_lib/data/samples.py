"""Pictures to try things on: one photograph, and BCCD, 364 photographs of blood cells.

BCCD is found on this machine or downloaded once.

A download counts only when every file of it is as it was when the book was written: the
digest of the content is compared, and until then nothing lies where the next call would
find it.
"""

import hashlib
import os
import tempfile
import zipfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpn_lib.data.images import read_image
from rpn_lib.data.problems import leaves_folder
from rpn_lib.errors import DataError

if TYPE_CHECKING:
    from requests import Response
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
            unpacked = _unpack(_fetch(url, temp, progress), Path(temp) / "unpacked")
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
    except (OSError, zipfile.BadZipFile) as error:
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
    import pooch  # here, since BCCD alone needs it

    return Path(cache if cache is not None else pooch.os_cache("rpn_lib")) / "BCCD"


def _fetch(url: str, folder: str, progress: bool) -> str:
    """Download an archive into a folder; an `OSError` where that fails."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it advises to pin the archive's hash
    downloader = pooch.HTTPDownloader(
        progressbar=progress and find_spec("tqdm") is not None,
        hooks={"response": _refuse},
    )
    # GitHub may pack the same files into another archive, so only `content_digest` of
    # the files is known.
    archive: str = pooch.retrieve(
        url, known_hash=None, fname="archive.zip", path=folder, downloader=downloader
    )
    return archive


def _refuse(response: "Response", **_: Any) -> None:
    """Close a connection of which nothing shall be read, which pooch does not."""
    size = int(response.headers.get("Content-Length", 0))
    if size > MAX_BYTES or not response.ok:
        response.close()
    if size > MAX_BYTES:
        raise OSError(f"it has {size:,} bytes, far more than BCCD")


def _unpack(archive: str, folder: Path) -> Path:
    """The folder BCCD of an archive, unpacked; an `OSError` where there is none."""
    with zipfile.ZipFile(archive) as opened:
        if sum(info.file_size for info in opened.infolist()) > MAX_BYTES:
            raise OSError("it unpacks to far more bytes than BCCD has")
        for name in opened.namelist():
            if leaves_folder(name):
                raise OSError(f"it holds {name!r}, outside of its folder")
        opened.extractall(folder)
    found = next(folder.rglob("BCCD"), None)
    if found is None:
        raise OSError("it holds no folder BCCD")
    return found
