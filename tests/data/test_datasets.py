"""Data sets: parsing of files, refusals, and downloads from a local server."""

import functools
import gzip
import hashlib
import http.server
import re
import threading

import numpy as np
import pytest
from scipy.io import savemat

from jaxrnn.data import datasets

READERS = {
    "names": datasets.names,
    "makemore_names": datasets.makemore_names,
    "tiny_shakespeare": datasets.tiny_shakespeare,
    "sst2": datasets.sst2,
    "multi30k": datasets.multi30k,
    "jsb_chorales": datasets.jsb_chorales,
    "time_series": functools.partial(datasets.time_series, "shampoo"),
}


def test_every_file_is_pinned():
    """Each data set has a reader, a licence, files with SHA-256 sums, and addresses that name them."""
    assert set(READERS) == set(datasets.DATASETS)
    for dataset in datasets.DATASETS.values():
        assert dataset.licence
        for file, sum_ in dataset.sums.items():
            assert re.fullmatch("[0-9a-f]{64}", sum_)
            assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w./-]+/" + re.escape(file), dataset.url(file))
        assert len(set(dataset.sums.values())) == len(dataset.sums)
    assert len(datasets.DATASETS["names"].sums) == 18


# ---- readers -------------------------------------------------------------------------------------------------------


def write(folder, name, content):
    """Write a file of a data set, with other contents than the real one."""
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    (folder / name).write_bytes(data)


def test_names(tmp_path):
    """One language per file, one name per line, with accents, without empty lines."""
    for file in datasets.DATASETS["names"].sums:
        write(tmp_path, file, f"Á{file[0]}\n\nD'Ambo \r\nÁ{file[0]}")
    names = datasets.names(tmp_path, check=False)
    assert len(names) == 18
    assert names["Polish"] == ["ÁP", "D'Ambo", "ÁP"]
    write(tmp_path, "names.txt", "emma\nava\n")
    assert datasets.makemore_names(tmp_path, check=False) == ["emma", "ava"]


def test_text(tmp_path):
    """The unchanged text."""
    write(tmp_path, "input.txt", "First:\nSpeak.\n\n")
    assert datasets.tiny_shakespeare(tmp_path, check=False) == "First:\nSpeak.\n\n"


def test_a_byte_order_mark_is_ignored(tmp_path):
    """Some editors write one at the start of UTF-8 files."""
    write(tmp_path, "input.txt", "\ufeffFirst:\n")
    write(tmp_path, "names.txt", "\ufeffemma\nava\n")
    write(tmp_path, "shampoo.csv", '\ufeff"Month","Sales"\r\n"1-01",266.0')
    for split in ("train", "val", "test_2016_flickr"):
        for language in ("de", "en"):
            write(tmp_path, f"{split}.{language}.gz", gzip.compress("\ufeffEin Hund.\n".encode()))
    assert datasets.tiny_shakespeare(tmp_path, check=False) == "First:\n"
    assert datasets.makemore_names(tmp_path, check=False) == ["emma", "ava"]
    assert datasets.time_series("shampoo", tmp_path, check=False).values.tolist() == [266.0]
    assert datasets.multi30k(tmp_path, check=False)["val"] == [("Ein Hund.", "Ein Hund.")]


def test_sst2(tmp_path):
    """A label and words per line."""
    for n, split in enumerate(("train", "dev", "test")):
        write(tmp_path, f"stsa.binary.{split}", "1 a good film\n" * n + "0 is n't\n")
    splits = datasets.sst2(tmp_path, check=False)
    assert [len(part) for part in splits.values()] == [1, 2, 3]
    assert splits["dev"] == [(["a", "good", "film"], 1), (["is", "n't"], 0)]


def test_multi30k(tmp_path):
    """Lines are paired by their number; only a newline ends a line."""
    for split in ("train", "val", "test_2016_flickr"):
        write(tmp_path, f"{split}.de.gz", gzip.compress("Ein\u2028Hund.\nZwei.\n".encode()))
        write(tmp_path, f"{split}.en.gz", gzip.compress(b"A dog.\nTwo.\n"))
    splits = datasets.multi30k(tmp_path, check=False)
    assert list(splits) == ["train", "val", "test"]
    assert splits["test"] == [("Ein\u2028Hund.", "A dog."), ("Zwei.", "Two.")]
    write(tmp_path, "val.en.gz", gzip.compress(b"A dog.\n"))
    with pytest.raises(ValueError, match="shorter"):
        datasets.multi30k(tmp_path, check=False)


def test_jsb_chorales(tmp_path):
    """Rolls of unequal length, from a MATLAB file."""
    rolls = [np.eye(n, 88, dtype=np.uint8) for n in (3, 5)]
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = rolls
    savemat(tmp_path / "JSB_Chorales.mat", {"traindata": cells, "validdata": cells[:, :1], "testdata": cells[:, 1:]})
    splits = datasets.jsb_chorales(tmp_path, check=False)
    assert [len(part) for part in splits.values()] == [2, 1, 1]
    np.testing.assert_array_equal(splits["test"][0], rolls[1])
    assert splits["train"][0].dtype == np.uint8


def test_time_series(tmp_path):
    """Without the header; commas and quotes as in CSV."""
    write(tmp_path, "shampoo.csv", '"Month","Sales"\r\n"1-01",266.0\r\n"1-02",145.9')
    series = datasets.time_series("shampoo", tmp_path, check=False)
    assert series.times == ["1-01", "1-02"]
    assert series.values.tolist() == [266.0, 145.9]
    assert series.values.dtype == np.float64


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_named_with_its_address(tmp_path, name):
    """Nothing is downloaded if a folder is given."""
    with pytest.raises(FileNotFoundError, match=rf"^folder: expected the files of {name} in .*, got no ") as refusal:
        READERS[name](tmp_path)
    assert any(datasets.DATASETS[name].url(file) in str(refusal.value) for file in datasets.DATASETS[name].sums)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_folder_is_named(tmp_path, name):
    """A missing folder, a file in its place, and an empty name."""
    write(tmp_path, "file", "")
    for folder in (tmp_path / "none", tmp_path / "file", ""):
        words = f"folder: expected the files of {name} in a folder, got '{folder}', which is none; https://"
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(words)}"):
            READERS[name](folder)


def test_a_file_with_another_checksum_is_refused(tmp_path):
    """The message has both SHA-256 sums."""
    write(tmp_path, "input.txt", "First Citizen:\n")
    found = hashlib.sha256(b"First Citizen:\n").hexdigest()
    dataset = datasets.DATASETS["tiny_shakespeare"]
    words = (f"{tmp_path / 'input.txt'}: expected SHA-256 {dataset.sums['input.txt']}, got {found}; "
             f"it is damaged or another version than {dataset.url('input.txt')}")  # fmt: skip
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        datasets.tiny_shakespeare(tmp_path)


NO_TEXT = b"\xff\xfe\x00"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        *((name, NO_TEXT, "UnicodeDecodeError") for name in READERS if name not in ("multi30k", "jsb_chorales")),
        ("sst2", b"good film\n", "ValueError: invalid literal for int"),
        ("multi30k", NO_TEXT, "BadGzipFile"),
        ("multi30k", gzip.compress(b"A dog.\n" * 99, mtime=0)[:-9], "EOFError"),
        ("jsb_chorales", NO_TEXT, ""),
        ("time_series", b"Month,Sales\n1-01\n", "IndexError"),
        ("time_series", b"", "ValueError"),
    ],
)
def test_a_damaged_file_with_check_false(tmp_path, name, content, error):
    """The message names the file and the error."""
    for file in datasets.DATASETS[name].sums:
        write(tmp_path, file, content)
    words = (
        rf"^{re.escape(str(tmp_path))}/.*: expected a file of {name}, got another one \({error}.*\); it is dam.*https"
    )
    with pytest.raises(ValueError, match=words):
        READERS[name](tmp_path, check=False)


def test_unknown_names():
    """The message lists the known ones."""
    with pytest.raises(ValueError, match=r"^name: expected one of 'names', .*, got 'imdb'$"):
        datasets.fetch("imdb")
    with pytest.raises(ValueError, match=r"^name: expected one of 'airline-passengers', .*, got 'gold'$"):
        datasets.time_series("gold")


# ---- downloads -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server instead of the public one: its folder, and the requested paths."""
    pytest.importorskip("pooch")
    folder, requests = tmp_path / "public", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{http_server.server_port}/"
        monkeypatch.setattr(datasets.Dataset, "url", lambda self, file: address + file)
        monkeypatch.setenv("JAXRNN_DATA", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder, requests
        http_server.shutdown()


def publish(monkeypatch, folder, text, pinned=None):
    """Put a text on the server; the pinned SHA-256 is that of ``pinned``, by default of the text."""
    write(folder, "input.txt", text)
    sums = {"input.txt": hashlib.sha256((pinned or text).encode()).hexdigest()}
    changed = datasets.DATASETS["tiny_shakespeare"]._replace(sums=sums)
    monkeypatch.setitem(datasets.DATASETS, "tiny_shakespeare", changed)


def test_downloaded_once(server, monkeypatch, tmp_path):
    """The second time it is read from the cache; a damaged file in the cache is downloaded again."""
    folder, requests = server
    publish(monkeypatch, folder, "To be.\n")
    assert datasets.tiny_shakespeare() == datasets.tiny_shakespeare() == "To be.\n"
    assert len(requests) == 1
    (tmp_path / "cache" / "tiny_shakespeare" / "input.txt").write_text("Not to be.\n")
    assert datasets.tiny_shakespeare() == "To be.\n"
    assert len(requests) == 2


def test_a_wrong_download_is_refused(server, monkeypatch):
    """The message has both SHA-256 sums; the file is not cached."""
    folder, _ = server
    publish(monkeypatch, folder, "To be.\n", pinned="Not to be.\n")
    sums = [hashlib.sha256(text).hexdigest() for text in (b"Not to be.\n", b"To be.\n")]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^tiny_shakespeare: expected SHA-256 .*input\.txt, got .*") as refusal:
            datasets.tiny_shakespeare(check=False)  # a downloaded file is always checked
        assert all(sum_ in str(refusal.value) for sum_ in sums)


def test_a_file_that_cannot_be_downloaded(server):
    """The message has its address, and how to use a local copy."""
    words = r"^sst2: expected stsa\.binary\.train from http.*, got no answer \(HTTPError\); download http.*--data DIR"
    with pytest.raises(FileNotFoundError, match=words):
        datasets.sst2()


def test_without_pooch(monkeypatch):
    """The message says what to install, and that a local copy needs no download."""
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ImportError, match=r"^sst2: downloading needs pooch; pip install pooch, or give the folder"):
        datasets.sst2()
