"""BCCD is found or downloaded; what is interrupted or changed is never used."""

import http.server
import io
import sys
import threading
import zipfile

import pytest

from rpn_lib.data.samples import bccd, content_digest, find_bccd
from rpn_lib.errors import DataError

FILES = {
    "JPEGImages/a.jpg": b"picture",
    "Annotations/a.xml": b"<annotation/>",
    "ImageSets/Main/train.txt": b"a\n",
}


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("BCCD_Dataset-d272/README.md", "not of the data")
        for name, content in files.items():
            opened.writestr(f"BCCD_Dataset-d272/BCCD/{name}", content)
    return buffer.getvalue()


@pytest.fixture
def digest(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "as it should be" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return content_digest(tmp_path / "as it should be")


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `body` is what it sends, `length` what it announces."""
    monkeypatch.delenv("RPN_DATA", raising=False)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.send_response(self.server.status)
            if self.server.length is not None:
                self.send_header("Content-Length", str(self.server.length))
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.body, running.status, running.requests = archive(FILES), 200, 0
        running.length = len(running.body)
        running.url = f"http://127.0.0.1:{running.server_port}/archive.zip"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_it_is_downloaded_once_with_a_bar(server, tmp_path, digest, capfd):
    for _ in range(2):
        folder = bccd(tmp_path / "cache", url=server.url, digest=digest)
        assert (folder / "JPEGImages/a.jpg").read_bytes() == b"picture"
    assert server.requests == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["JPEGImages", "Annotations", "ImageSets"]
    )
    assert "100%" in capfd.readouterr().err


def test_it_is_downloaded_where_tqdm_is_not_installed(
    server, tmp_path, digest, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    folder = bccd(tmp_path / "cache", url=server.url, digest=digest)
    assert (folder / "JPEGImages/a.jpg").read_bytes() == b"picture"


def test_it_is_found_without_a_download_where_it_is(
    server, tmp_path, digest, monkeypatch
):
    cache = tmp_path / "cache"
    assert find_bccd(cache, digest=digest) is None
    assert server.requests == 0
    folder = bccd(cache, url=server.url, digest=digest, progress=False)
    assert find_bccd(cache, digest=digest) == folder
    monkeypatch.setenv("RPN_DATA", str(cache))
    assert find_bccd(tmp_path / "elsewhere") == folder


def test_the_folder_that_rpn_data_names_comes_first(server, tmp_path, monkeypatch):
    (tmp_path / "BCCD/JPEGImages").mkdir(parents=True)
    monkeypatch.setenv("RPN_DATA", str(tmp_path))
    assert bccd(tmp_path / "cache", url=server.url) == tmp_path / "BCCD"
    assert server.requests == 0


def refused(server, tmp_path, digest):
    with pytest.raises(DataError) as error:
        bccd(tmp_path / "cache", url=server.url, digest=digest, progress=False)
    assert list((tmp_path / "cache").iterdir()) == []
    return str(error.value)


def test_a_download_that_ends_early_leaves_nothing(server, tmp_path, digest):
    server.body = server.body[:200]
    assert "200 bytes read" in refused(server, tmp_path, digest)
    server.body = archive(FILES)
    assert bccd(tmp_path / "cache", url=server.url, digest=digest).is_dir()


def test_one_that_ends_early_without_saying_so_too(server, tmp_path, digest):
    server.body, server.length = server.body[:200], None
    assert "not a zip file" in refused(server, tmp_path, digest)


@pytest.mark.parametrize(
    "change",
    [{"JPEGImages/a.jpg": b"another"}, {"Annotations/b.xml": b"one more"}],
)
def test_other_content_is_refused(server, tmp_path, digest, change):
    server.body = archive({**FILES, **change})
    server.length = len(server.body)
    assert "not the BCCD that this book" in refused(server, tmp_path, digest)


def test_files_outside_the_folder_are_refused(server, tmp_path, digest):
    server.body = archive({**FILES, "../../../evil.txt": b"!"})
    server.length = len(server.body)
    assert "outside of its folder" in refused(server, tmp_path, digest)
    assert not list(tmp_path.rglob("evil.txt"))


def test_far_too_much_is_refused_before_it_is_fetched(server, tmp_path, digest):
    server.length = 10**12
    assert "far more than BCCD" in refused(server, tmp_path, digest)


def test_an_error_of_the_server_is_told(server, tmp_path, digest):
    server.status = 404
    message = refused(server, tmp_path, digest)
    assert "404" in message
    assert "set RPN_DATA" in message


def test_no_network(server, tmp_path, digest):
    server.url = "http://127.0.0.1:1/archive.zip"
    assert "Connection refused" in refused(server, tmp_path, digest)


def test_a_copy_that_was_changed_later_is_not_used(server, tmp_path, digest):
    folder = bccd(tmp_path / "cache", url=server.url, digest=digest, progress=False)
    (folder / "JPEGImages/a.jpg").write_bytes(b"drawn over")
    with pytest.raises(DataError, match="is not as it was downloaded"):
        bccd(tmp_path / "cache", url=server.url, digest=digest)
