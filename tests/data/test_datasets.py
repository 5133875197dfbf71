"""Public data sets by name, against a server of our own: whole, interrupted, wrong, absent, no room, many at once."""

import errno
import gzip
import hashlib
import json
import multiprocessing
import re
import shutil
import threading
import time
import zipfile
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tgscale.cli import data as command
from tgscale.data.datasets import get as get_module
from tgscale.data.datasets import registry
from tgscale.data.datasets.fetch import fetch, recorded_digest
from tgscale.data.datasets.get import downloads_folder, get_dataset, parse_digests
from tgscale.data.datasets.registry import DATASETS, find_dataset
from tgscale.data.formats import FORMATS
from tgscale.data.store import open_stream, read_meta
from tgscale.errors import ConfigError, DataError, StoreError

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``, as ``server.how`` says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        how, name = self.server.how, self.path.rsplit("/", 1)[1]
        self.server.asked.append((name, self.headers.get("Range"), self.headers.get("If-Range")))
        if how.failing:
            how.failing -= 1
            return self.send_error(how.failure)
        if name not in self.server.files:
            return self.send_error(404)
        content = self.server.files[name]
        first = self._first(content, how)
        if first is None:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        part = content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if how.validator:
            self.send_header("ETag", how.validator)
        if how.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if how.chunked:
            size = min(how.cut_after, len(part)) if how.cuts else len(part)
            for at in range(0, size, how.chunked):
                chunk = part[at : min(at + how.chunked, size)]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if how.cuts:
                how.cuts -= 1
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")
            return None
        if how.cuts:
            how.cuts -= 1
            part = part[: how.cut_after]
            self.close_connection = True
        self.wfile.write(part)
        if how.stall is not None and len(part) < len(content) - first:
            how.stall.wait(30)

    def _first(self, content, how):
        asked = self.headers.get("Range")
        if not asked or not how.ranges or self.headers.get("If-Range") != how.validator:
            return 0
        first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        return first if first < len(content) else None

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked = {"x.bin": CONTENT}, []
    served.how = SimpleNamespace(
        ranges=True, validator='"v1"', cuts=0, cut_after=2 << 20, failing=0, failure=503, stall=None, chunked=0
    )
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TGSCALE_DOWNLOADS", str(tmp_path / "downloads"))


def get(server, folder, **options):
    return fetch(f"{server.url}/x.bin", folder / "x.bin", **{"wait": 0.001} | options)


def test_a_whole_file(tmp_path, server):
    seen = []
    found = get(server, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.checked, found.new) == (DIGEST, "first", True)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert (tmp_path / "x.bin.sha256").read_text() == f"{DIGEST}  x.bin\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".x.bin.lock", "x.bin", "x.bin.sha256"]


def test_what_is_there_is_not_fetched_again_but_checked(tmp_path, server):
    get(server, tmp_path)
    again = get(server, tmp_path)
    assert (again.new, again.checked, len(server.asked)) == (False, "recorded", 1)
    (tmp_path / "x.bin").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"x\.bin is not the file that was expected.*the recorded one is"):
        get(server, tmp_path)
    assert (tmp_path / "x.bin.wrong").read_bytes() == b"damaged"
    assert get(server, tmp_path).new  # and the next time it is fetched anew


def test_a_connection_that_breaks_is_gone_on_with(tmp_path, server):
    server.how.cuts = 2
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.asked] == [None, f"bytes={2 << 20}-", f"bytes={4 << 20}-"]
    assert {condition for _, _, condition in server.asked[1:]} == {'"v1"'}


@pytest.mark.parametrize("validator", ['"v1"', None])  # it can be gone on with; it must be fetched anew
@pytest.mark.parametrize("cuts", [2, 3])  # the third falls between the last byte and the mark of the end
def test_a_chunked_answer_that_is_cut_is_not_taken_for_whole(tmp_path, server, validator, cuts):
    """Such an answer has no length that would tell."""
    server.how.chunked, server.how.cuts, server.how.validator = 300_000, cuts, validator
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert len(server.asked) == cuts + 1


def test_a_chunked_answer_that_is_always_cut_is_refused(tmp_path, server):
    server.how.chunked, server.how.cuts, server.how.validator = 300_000, 10**6, None
    with pytest.raises(DataError, match=r"3 times\): the connection ended after 2,097,152 bytes"):
        get(server, tmp_path, tries=3)
    assert not (tmp_path / "x.bin").exists()


def test_a_killed_fetch_is_gone_on_with_by_the_next(tmp_path, server):
    server.how.cuts = 1
    with pytest.raises(DataError, match=r"2,097,152 bytes have arrived and are kept"):
        get(server, tmp_path, tries=1)
    assert not (tmp_path / "x.bin").exists()
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={2 << 20}-"


def test_a_process_that_is_killed(tmp_path, server):
    """SIGKILL in the middle: what had arrived is used, and the lock is free."""
    server.how.cuts, server.how.stall = 1, threading.Event()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=fetch, args=(f"{server.url}/x.bin", tmp_path / "x.bin"))
    worker.start()
    part = tmp_path / ".x.bin.part"
    while not (part.exists() and part.stat().st_size >= 1 << 20):
        time.sleep(0.01)
    worker.kill()
    worker.join()
    server.how.stall.set()
    have = part.stat().st_size
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={have}-"


def test_a_file_that_changed_meanwhile_comes_from_its_beginning(tmp_path, server):
    """If-Range: the rest of one version is never put behind the beginning of another."""
    server.how.cuts = 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=1)
    server.files["x.bin"], server.how.validator = CONTENT[::-1], '"v2"'
    assert get(server, tmp_path).path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("ranges", "validator"), [(False, '"v1"'), (True, None), (True, 'W/"weak"')])
def test_a_server_that_cannot_go_on(tmp_path, server, ranges, validator):
    server.how.ranges, server.how.validator, server.how.cuts = ranges, validator, 1
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_part_that_is_already_whole(tmp_path, server):
    server.how.cuts = 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=1)
    (tmp_path / ".x.bin.part").write_bytes(CONTENT)
    assert get(server, tmp_path, sha256=DIGEST).checked == "published"


def test_another_part_than_asked_for_is_not_taken(tmp_path, server, monkeypatch):
    server.how.cuts = 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=1)
    monkeypatch.setattr(Handler, "_first", lambda self, content, how: 17 if self.headers.get("Range") else 0)
    assert get(server, tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["sha256", "given"])
def test_a_wrong_digest_keeps_the_file_aside(tmp_path, server, digest):
    with pytest.raises(DataError, match=rf"has SHA-256 {DIGEST}, the (published|given) one is {'0' * 64}"):
        get(server, tmp_path, **{digest: "0" * 64})
    assert (tmp_path / "x.bin.wrong").read_bytes() == CONTENT
    assert not (tmp_path / "x.bin").exists()
    assert recorded_digest(tmp_path / "x.bin") is None


def test_a_published_sha1_is_checked(tmp_path, server):
    assert get(server, tmp_path / "a", sha1=hashlib.sha1(CONTENT).hexdigest()).checked == "published"
    with pytest.raises(DataError, match="the published one is 1111"):
        get(server, tmp_path / "b", sha1="1" * 40)


def test_the_first_fetch_is_trusted_and_the_next_must_be_the_same(tmp_path, server):
    get(server, tmp_path)
    (tmp_path / "x.bin").unlink()
    server.files["x.bin"] = CONTENT + b"changed"
    changed = hashlib.sha256(CONTENT + b"changed").hexdigest()
    with pytest.raises(DataError, match=f"the recorded one is {DIGEST}"):
        get(server, tmp_path)
    assert get(server, tmp_path, given=changed).checked == "given"  # unless the caller says which one is right
    assert recorded_digest(tmp_path / "x.bin") == changed


@pytest.mark.parametrize("code", [403, 404])
def test_what_is_not_there_is_said_at_once(tmp_path, server, code):
    server.how.failing, server.how.failure = 9, code
    with pytest.raises(DataError, match=rf"the server says {code} .*put it at {tmp_path}/x\.bin"):
        get(server, tmp_path)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(tmp_path, server):
    server.how.failing, said = 3, []
    assert get(server, tmp_path, note=said.append).new
    assert [re.search(r"503 .*; next try in (.*) s", text)[1] for text in said] == ["0.001", "0.002", "0.004"]
    server.how.failing = 9
    with pytest.raises(DataError, match=r"could not be fetched \(5 times\): the server says 503"):
        fetch(f"{server.url}/x.bin", tmp_path / "y.bin", wait=0.001)


def test_no_network(tmp_path, server):
    port = server.server_port
    server.server_close()  # nobody listens there any more
    with pytest.raises(DataError, match=r"could not be fetched \(2 times\): .*refused.*get the file by hand"):
        fetch(f"http://127.0.0.1:{port}/x.bin", tmp_path / "x.bin", tries=2, wait=0.001)
    with pytest.raises(DataError, match="could not be fetched"):
        fetch("http://nowhere.invalid/x.bin", tmp_path / "x.bin", tries=1)


def test_a_file_put_there_by_hand(tmp_path):
    (tmp_path / "x.bin").write_bytes(CONTENT)
    found = fetch("http://nowhere.invalid/x.bin", tmp_path / "x.bin", sha256=DIGEST)
    assert (found.checked, found.new) == ("published", False)


def test_a_disk_that_is_too_small_is_noticed_before(tmp_path, server, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("tgscale.data.datasets.fetch.shutil.disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"disk full while fetching .*x\.bin: 0\.0 MB are free.*--downloads"):
        get(server, tmp_path)


def test_a_disk_that_fills_up_keeps_what_has_arrived(tmp_path, server, monkeypatch):
    def full(answer, part, have, size, progress):
        part.write_bytes(CONTENT[: 1 << 20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tgscale.data.datasets.fetch._copy", full)
        with pytest.raises(StoreError, match="the same command goes on from there"):
            get(server, tmp_path)
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={1 << 20}-"


def _fetch_in_process(url, path, answers):
    found = fetch(url, path)
    answers.put((found.new, found.path.read_bytes() == CONTENT))


def test_several_at_once_fetch_it_once(tmp_path, server):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    arguments = (f"{server.url}/x.bin", tmp_path / "x.bin", answers)
    workers = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert Counter(found) == {(True, True): 1, (False, True): 3}
    assert len(server.asked) == 1


def test_the_table_is_sound():
    """Addresses, names, formats and digests; nothing that is made up can stand there as a digest."""
    for name, dataset in DATASETS.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert dataset.format in FORMATS
        names = [file.name for file in dataset.files]
        assert len(set(names)) == len(names) > 0
        for file in dataset.files:
            assert re.match(r"https?://[a-z0-9.-]+/.+", file.url)
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.sha1 is None or re.fullmatch(r"[0-9a-f]{40}", file.sha1)
    assert DATASETS["wikipedia"].files[0].url == "http://snap.stanford.edu/jodie/wikipedia.csv"
    assert DATASETS["bitcoin-otc"].files[0].sha1 == "c14281f9e252de0bd0b5f1c6e2bae03123938641"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean wikipedia\?.*tgscale data list"):
        find_dataset("wikipedai")


JODIE = "user_id,item_id,timestamp,state_label,features\n0,0,0.0,0,0.5\n1,0,36.0,1,1.5\n"


def test_get_fetches_and_imports(tmp_path, server, capsys):
    server.files["wikipedia.csv"] = JODIE.encode()
    words = ["get", "wikipedia", "--mirror", f"{server.url}/anywhere", "--out", str(tmp_path / "wiki")]
    command.main(words)
    printed = capsys.readouterr()
    assert open_stream(tmp_path / "wiki").edge_features.tolist() == [[0.5], [1.5]]
    assert hashlib.sha256(JODIE.encode()).hexdigest() in printed.out
    assert "no digest is published" in printed.out
    assert "2 events were imported, 157,474 is what the source states" in printed.out
    assert read_meta(tmp_path / "wiki")["source"]["dataset"] == {
        "name": "wikipedia",
        "urls": ["http://snap.stanford.edu/jodie/wikipedia.csv"],
        "sha256": {"wikipedia.csv": hashlib.sha256(JODIE.encode()).hexdigest()},
    }
    with pytest.raises(StoreError, match="already exists"):  # before anything is fetched
        command.main(words)
    assert len(server.asked) == 1
    command.main([*words, "--overwrite", "--quiet"])
    assert "was there" in capsys.readouterr().out


def test_get_from_a_folder(tmp_path):
    """Without a network: a mirror may be a folder."""
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "sx-askubuntu.txt.gz").write_bytes(gzip.compress(b"1 2 10\n3 4 20\n"))
    report = get_dataset("askubuntu", tmp_path / "store", mirror=str(tmp_path / "usb"))
    assert report.imported.events == 2
    with pytest.raises(DataError, match="could not be fetched: "):
        get_dataset("email-eu", tmp_path / "other", mirror=str(tmp_path / "usb"))


def test_get_ratings(tmp_path, server, monkeypatch):
    server.files["soc-sign-bitcoinotc.csv.gz"] = gzip.compress(b"6,2,4,1289241911.72836\n6,5,2,1289241941.53378\n")
    dataset = DATASETS["bitcoin-otc"]
    for digests, said in (({}, "6424ac98"), ({"sha256": None}, "c14281f9"), ({"sha256": None, "sha1": None}, None)):
        other = replace(dataset, files=(replace(dataset.files[0], **digests),))
        monkeypatch.setitem(registry.DATASETS, "bitcoin-otc", other)
        if said:
            with pytest.raises(DataError, match=f"the published one is {said}"):
                get_dataset("bitcoin-otc", tmp_path / "store", mirror=server.url)
    get_dataset("bitcoin-otc", tmp_path / "store", mirror=server.url)
    stream = open_stream(tmp_path / "store")
    assert (stream.edge_features.tolist(), stream.time_unit) == ([[4], [2]], "us")


def test_get_a_folder_of_tgl(tmp_path, server):
    server.files["edges.csv"] = b",src,dst,time,ext_roll\n0,1,2,0.0,0\n1,2,1,5.0,2\n"
    digest = hashlib.sha256(server.files["edges.csv"]).hexdigest()
    report = get_dataset("tgl-mooc", tmp_path / "store", mirror=server.url, sha256=f"edges.csv={digest}")
    assert (report.imported.format, report.files[0].checked) == ("tgl", "given")


@pytest.fixture
def tgb_is_found(monkeypatch):
    """As if py-tgb were installed, whether it is or not."""
    monkeypatch.setattr(get_module, "find_spec", lambda name: name)


def test_what_an_import_needs_is_looked_for_before_the_fetch(tmp_path, server, monkeypatch):
    monkeypatch.setattr(get_module, "find_spec", lambda name: None)
    server.files["tgbl-uci.zip"] = b"some archive"
    with pytest.raises(ConfigError, match=r"tgbl-uci is imported by py-tgb, .*: pip install py-tgb, .* --fetch-only"):
        get_dataset("tgbl-uci", tmp_path / "store", mirror=server.url)
    assert server.asked == []
    get_dataset("tgbl-uci", tmp_path / "store", mirror=server.url, import_it=False)
    assert len(server.asked) == 1


def test_packages_that_imports_need_are_known_by_module():
    assert {dataset.needs for dataset in DATASETS.values()} - {None} == set(get_module.MODULES)


def test_get_an_archive(tmp_path, server, tgb_is_found):
    """Archives of TGB are unpacked once; without py-tgb the import says what it needs, and the files stay."""
    with zipfile.ZipFile(tmp_path / "tgbl-uci.zip", "w") as archive:
        rows = "".join(f"{i % 3},{i % 2},{10 * i},0\n" for i in range(20))
        archive.writestr("tgbl_uci/tgbl-uci_edgelist.csv", "user_id,item_id,timestamp,label\n" + rows)
        archive.writestr("../outside.txt", "no further than the folder")
    server.files["tgbl-uci.zip"] = (tmp_path / "tgbl-uci.zip").read_bytes()
    try:
        import tgb  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install py-tgb"):
            get_dataset("tgbl-uci", tmp_path / "store", mirror=server.url)
    else:
        assert get_dataset("tgbl-uci", tmp_path / "store", mirror=server.url).imported.events == 20
    unpacked = [path for path in (tmp_path / "downloads" / "tgbl-uci").iterdir() if path.is_dir()]
    assert len(unpacked) == 1
    assert (unpacked[0] / "tgbl_uci" / "tgbl-uci_edgelist.csv").exists()
    assert not list((tmp_path / "downloads").glob("outside.txt"))
    assert not (tmp_path / "downloads" / "tgbl-uci" / "outside.txt").exists()


def test_a_broken_archive(tmp_path, server, tgb_is_found):
    server.files["tgbl-uci.zip"] = b"not a zip"
    with pytest.raises(DataError, match=r"tgbl-uci\.zip is not a zip archive"):
        get_dataset("tgbl-uci", tmp_path / "store", mirror=server.url)


def test_an_archive_that_another_process_unpacks_meanwhile(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/a_edgelist.csv", "x")
    real = zipfile.ZipFile.extract

    def slowly(self, entry, folder):
        monkeypatch.setattr(zipfile.ZipFile, "extract", real)
        get_module._unpacked(tmp_path / "a.zip", DIGEST)
        return real(self, entry, tmp_path / "other")

    monkeypatch.setattr(zipfile.ZipFile, "extract", slowly)
    monkeypatch.setattr(get_module.os, "getpid", iter([1, 2]).__next__)
    (tmp_path / ".a.tmp-1").mkdir()
    unpacked = get_module._unpacked(tmp_path / "a.zip", DIGEST)
    assert (unpacked / "a" / "a_edgelist.csv").read_text() == "x"
    assert not list(tmp_path.glob(".a.tmp-*"))


def test_fetch_only(tmp_path, server, capsys):
    server.files["mooc.csv"] = JODIE.encode()
    command.main(["get", "mooc", "--mirror", server.url, "--fetch-only", "--downloads", str(tmp_path / "here")])
    assert (tmp_path / "here" / "mooc" / "mooc.csv").read_text() == JODIE
    assert not Path("data/mooc").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [("abc", "no SHA-256"), ("x.csv=" + "0" * 64, "say of which file, wikipedia.csv"), ("g" * 64, "no SHA-256")],
)
def test_digests_that_are_none(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_digests(text, DATASETS["wikipedia"])
    with pytest.raises(ConfigError, match=r"edges\.csv or edge_features\.pt"):
        parse_digests("0" * 64, DATASETS["tgl-wiki"])


def test_a_mirror_that_is_no_address(tmp_path):
    with pytest.raises(ConfigError, match="--mirror ftp://x: give an address"):
        get_dataset("wikipedia", tmp_path / "store", mirror="ftp://x")


def test_list(capsys):
    command.main(["list"])
    printed = capsys.readouterr().out
    for name in DATASETS:
        assert name in printed
    assert "none known" in printed
    command.main(["list", "--json"])
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(DATASETS)
    assert listed["wikipedia"]["files"] == [
        {"url": "http://snap.stanford.edu/jodie/wikipedia.csv", "sha256": None, "sha1": None}
    ]


def test_where_downloads_go(monkeypatch, tmp_path):
    assert downloads_folder() == tmp_path / "downloads"
    monkeypatch.delenv("TGSCALE_DOWNLOADS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert downloads_folder() == tmp_path / "cache" / "tgscale"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads_folder() == Path.home() / ".cache" / "tgscale"
