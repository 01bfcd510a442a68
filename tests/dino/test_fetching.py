"""Released weights over HTTP: resumed, checked, whole or absent; and what a person is told otherwise."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dino import fetching, released
from dino.cli import main
from dino.errors import UserError
from dino.fetching import fetch_file

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 40
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, as badly as a test wants it to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.breaks_after: list[int] = []
        """Bytes after which each of the next connections breaks."""
        self.status: list[int] = []
        """Of the next answers, before it answers properly."""
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({key.lower(): value for key, value in self.headers.items()})
        if server.status:
            self.send_response(server.status.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        body = server.content[start:]
        if server.breaks_after:
            body = body[: server.breaks_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "BLOCK", 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_a_record_of_where_from(server: Server, tmp_path: Path):
    fetched = fetch_file(server.url, tmp_path / "new" / "w.pth", sha256=HASH[:8], name="w")
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.sha256, fetched.bytes) == (HASH, len(CONTENT))
    assert names(tmp_path / "new") == ["w.pth", "w.pth.json"]
    record = json.loads((tmp_path / "new" / "w.pth.json").read_text())
    assert record == {"name": "w", "source": server.url, "sha256": HASH, "published_sha256": HASH[:8]}


def test_a_broken_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path):
    server.breaks_after = [3000, 2500]
    assert fetch_file(server.url, tmp_path / "w.pth", sha256=HASH).path.read_bytes() == CONTENT
    assert [request.get("range") for request in server.requests] == [None, "bytes=3000-", "bytes=5500-"]
    assert server.requests[1]["if-range"] == '"v1"'


def test_a_later_call_goes_on_and_the_target_is_absent_until_the_end(server: Server, tmp_path: Path):
    server.breaks_after = [3000, 0, 10]
    with pytest.raises(
        UserError, match=r"cannot fetch w after 0\.0 MiB, which are kept: run the same command to go on"
    ):
        fetch_file(server.url, tmp_path / "w.pth", sha256=HASH, name="w")
    assert names(tmp_path) == ["w.pth.part", "w.pth.part.etag"]
    assert (tmp_path / "w.pth.part").read_bytes() == CONTENT[:3010]
    assert fetch_file(server.url, tmp_path / "w.pth", sha256=HASH).path.read_bytes() == CONTENT
    assert server.requests[-1]["range"] == "bytes=3010-"
    assert names(tmp_path) == ["w.pth", "w.pth.json"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server: Server, tmp_path: Path):
    server.breaks_after = [3000, 0, 0]
    with pytest.raises(UserError):
        fetch_file(server.url, tmp_path / "w.pth")
    server.content, server.etag = b"PK another" + CONTENT, '"v2"'
    assert fetch_file(server.url, tmp_path / "w.pth").path.read_bytes() == server.content


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path):
    server.ranges, server.etag, server.breaks_after = False, None, [3000]
    assert fetch_file(server.url, tmp_path / "w.pth", sha256=HASH).path.read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_that_is_whole_already_or_too_long_ends_well(server: Server, tmp_path: Path, extra: bytes):
    (tmp_path / "w.pth.part").write_bytes(CONTENT + extra)
    assert fetch_file(server.url, tmp_path / "w.pth", sha256=HASH).path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path):
    server.status = [503, 503]
    assert fetch_file(server.url, tmp_path / "w.pth", sha256=HASH).bytes == len(CONTENT)
    server.status, server.requests = [404], []
    with pytest.raises(UserError, match=r"answers 404 .*: fetch http://.* by hand to .*x\.pth, or name"):
        fetch_file(server.url, tmp_path / "x.pth")
    assert len(server.requests) == 1
    assert "x.pth.part" not in names(tmp_path)


def test_another_hash_is_refused_and_nothing_kept(server: Server, tmp_path: Path):
    with pytest.raises(UserError, match=rf"is not w: its SHA-256 is {HASH}, published is 00000000\.\.\.; it was not"):
        fetch_file(server.url, tmp_path / "w.pth", sha256="00000000", name="w")
    assert names(tmp_path) == []


def test_a_proxys_page_in_place_of_weights_is_refused(server: Server, tmp_path: Path):
    server.content = b"<html>Please log in</html>"
    with pytest.raises(UserError, match=r"it is no PyTorch file \(it begins with b'<html>"):
        fetch_file(server.url, tmp_path / "w.pth")
    assert names(tmp_path) == []


def test_an_earlier_file_survives_a_failure(server: Server, tmp_path: Path):
    (tmp_path / "w.pth").write_bytes(b"PK earlier")
    with pytest.raises(UserError):
        fetch_file(server.url, tmp_path / "w.pth", sha256="00")
    assert (tmp_path / "w.pth").read_bytes() == b"PK earlier"


def test_two_downloads_of_one_file_do_not_mix(server: Server, tmp_path: Path):
    with fetching._part_of(tmp_path / "w.pth"), pytest.raises(UserError, match="written by another `dino fetch`"):
        fetch_file(server.url, tmp_path / "w.pth")


def test_a_dead_network_names_the_way_by_hand(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"cannot fetch w \(.*\); without a network, fetch http://127.0.0.1:9/w by hand to"
    ):
        fetch_file("http://127.0.0.1:9/w", tmp_path / "w.pth", name="w")
    assert names(tmp_path) == []


@pytest.fixture
def one_released(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One released file, at the server, and the folder for it."""
    weights = released.ReleasedWeights("a network", server.url, "vit_small", sha256=HASH[:8])
    monkeypatch.setattr(released, "RELEASED", {"small": weights})
    monkeypatch.setenv("DINO_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_the_command_fetches_once(one_released: Path, server: Server, capsys: pytest.CaptureFixture[str]):
    assert released.missing_weights_reason("small") == (
        f"weights 'small' ({one_released / 'weights.pth'}) are not here: `dino fetch small`"
    )
    assert main(["fetch", "all"]) == 0
    assert "first 8 digits are published, and agree" in capsys.readouterr().err
    assert released.missing_weights_reason("small") is None
    assert main(["fetch", "small"]) == 0
    assert len(server.requests) == 1
    assert main(["fetch", "small", "--force"]) == 0
    assert len(server.requests) == 2
    assert main(["fetch", "--list"]) == 0
    assert "small                      here" in capsys.readouterr().out


def test_the_command_takes_another_address_and_folder(one_released: Path, server: Server, tmp_path: Path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(CONTENT)
    assert main(["fetch", "small", "--url", str(copy), "--folder", str(tmp_path / "f")]) == 0
    assert (tmp_path / "f" / "weights.pth").read_bytes() == CONTENT
    assert not server.requests
    copy.write_bytes(b"PK another")
    assert main(["fetch", "small", "--url", str(copy)]) == 2
    assert not (one_released / "weights.pth").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], "no released weights 'smal'; did you mean 'small'?"),
        ([], "name the weights to fetch, or all (there are: small)"),
        (["small", "--url", "nowhere"], "'nowhere' is neither a file nor a URL"),
    ],
)
def test_mistakes_are_one_sentence(
    one_released: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert main(["fetch", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
