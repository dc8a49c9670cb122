"""Sequence to sequence: dates in many formats to ISO format, or German to English.

    python scripts/translate.py                      # dates by characters, with attention: 1 to 2 minutes
    python scripts/translate.py --quick              # half a minute, less exact
    python scripts/translate.py --sentence "the 3rd of march, 1998"      # with the trained model
    python scripts/translate.py --data DIR           # Multi30k: {train,val,test_2016_flickr}.{de,en}.gz in DIR
    python scripts/translate.py --data DIR --minutes 30, then the same with --resume

Encoder and decoder are GRUs, with attention (--attention) or with the context vector as an input of every step. The
dates of the test are not in the training data in any format. The Multi30k run is that of bentrevett's second PyTorch
tutorial (Cho et al. 2014): lower-case words that occur twice, 10 epochs, teacher forcing with probability 0.5; its
published test perplexity is 37.5 and its BLEU 20.6. Model, metrics, loss curve and attention plot go to ``--out``; the
last line printed is the result as JSON.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import json
import math
import os
import pathlib
import re
import signal
import threading
import time
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import above_zero, positive, probability
from dates import FIRST, LAST, forms

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import PairBatch, Pairs, Vocabulary, datasets
from jaxrnn.tasks import AdditiveAttention, AttentionCell, ContextCell, DotAttention, EncoderDecoder, GeneralAttention

SPECIAL = ("<pad>", "<start>", "<end>")
START, END = 1, 2
Pair = tuple[list[str], list[str]]  # tokens of the source and of the target


class Task(NamedTuple):
    """Sentence pairs as tokens, and their vocabularies."""

    name: str
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    source: Vocabulary
    target: Vocabulary
    glue: str  # between tokens of the target

    def ids(self, pairs: list[Pair]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both sides as ids, from <start> to <end>."""
        return [(encode(self.source, a), encode(self.target, b)) for a, b in pairs]

    def text(self, ids) -> str:
        """Text of target ids before <end>."""
        words = list(itertools.takewhile(lambda word: word != "<end>", self.target.decode(np.asarray(ids))))
        return self.glue.join(words)


def encode(vocabulary: Vocabulary, tokens: list[str]) -> np.ndarray:
    """Ids of tokens, between <start> and <end>."""
    return np.array([START, *vocabulary.encode(tokens), END], np.int32)


# ---- dates -----------------------------------------------------------------------------------------------------------


def dates(count: int, tested: int, seed: int) -> Task:
    """Dates of two centuries; training, validation and test have different days."""
    draw = np.random.default_rng(seed)
    days = draw.permutation(np.arange(FIRST, LAST + 1))

    def pairs(days) -> list[Pair]:
        found = [datetime.date.fromordinal(int(day)) for day in days]
        ways = [forms(date) for date in found]
        return [(list(way[draw.integers(len(way))]), list(date.isoformat())) for date, way in zip(found, ways)]

    valid_days, test_days, rest = np.split(days, [tested, 2 * tested])
    train, valid, test = pairs(draw.choice(rest, count)), pairs(valid_days), pairs(test_days)
    year = map(datetime.date.fromordinal, range(FIRST, FIRST + 365))  # its dates have all letters
    source = Vocabulary.of("".join(itertools.chain(*map(forms, year))), special=SPECIAL)
    return Task("dates", train, valid, test, source, Vocabulary.of("0123456789-", special=SPECIAL), "")


# ---- German to English -----------------------------------------------------------------------------------------------


def words(sentence: str) -> list[str]:
    """Words and punctuation in lower case."""
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def multi30k(folder: str) -> Task:
    """Image captions; a word that occurs once is <unk>."""
    splits = {split: [(words(a), words(b)) for a, b in pairs] for split, pairs in datasets.multi30k(folder).items()}
    sides = zip(*splits["train"])
    source, target = (
        Vocabulary.of(itertools.chain(*side), least=2, unknown="<unk>", special=(*SPECIAL, "<unk>")) for side in sides
    )
    return Task("multi30k", splits["train"], splits["val"], splits["test"], source, target, " ")


# ---- model -----------------------------------------------------------------------------------------------------------


def build_attention(kind: str, memory: int, units: int) -> Any:
    """An attention by name."""
    return {"additive": lambda: AdditiveAttention(memory, units, units),
            "general": lambda: GeneralAttention(memory, units), "dot": lambda: DotAttention(units)}[kind]()  # fmt: skip


def build(task: Task, attention: str) -> EncoderDecoder:
    if task.name == "dates":
        embedding, units, dropout = 24, 96, 0.0
    else:
        embedding, units, dropout = 256, 512, 0.5

    def embedded(vocabulary: Vocabulary) -> list:
        return [rnn.Embedding(len(vocabulary), embedding), rnn.Dropout(dropout)]

    def gru(input_size: int, hidden_size: int) -> rnn.GRU:
        return rnn.GRU(input_size, hidden_size, reset_after=True)

    context = units  # size of the context vector
    recurrent: Any
    cell: Any
    if attention == "none":
        recurrent, cell = gru(embedding, units), ContextCell(gru(embedding + context, units), context)
    else:
        recurrent = rnn.Bidirectional(gru(embedding, units // 2))
        cell = AttentionCell(gru(embedding + context, units), build_attention(attention, context, units))
    encoder = rnn.Stack(*embedded(task.source), recurrent)
    decoder = rnn.Stack(*embedded(task.target), rnn.Residual(cell, "concat"),
                        rnn.Linear(embedding + units + context, len(task.target)))  # fmt: skip
    model = EncoderDecoder(encoder, decoder, bridge=attention != "none")
    return model if task.name == "dates" else rnn.initializers.everywhere(model, rnn.initializers.normal(0.01))


# ---- data, loss, decoding --------------------------------------------------------------------------------------------


def loss_of(model: EncoderDecoder, params, batch: PairBatch, teacher_forcing: float, key=None):
    """Cross entropy of a batch, and its number of target tokens."""
    value, metrics = learning.translation_loss(model, teacher_forcing=teacher_forcing)(params, batch, key)
    return value, metrics["count"]


_evaluate = jax.jit(loss_of, static_argnames=("model", "teacher_forcing"))


def perplexity(model: EncoderDecoder, params, data: Pairs, teacher_forcing: float) -> float:
    """Perplexity of all tokens of a data set: teacher-forced at 1, free-running at 0."""
    sums = [_evaluate(model, params, data[n], teacher_forcing) for n in range(len(data))]
    counts = np.array([float(count) for _, count in sums])
    return math.exp(float(np.dot([float(nats) for nats, _ in sums], counts) / counts.sum()))


@functools.partial(jax.jit, static_argnames=("model", "steps", "width"))
def write(model: EncoderDecoder, params, source, lengths, *, steps: int, width: int):
    """Translations ``[steps, B]``: greedy with width 1, else beam search by the mean log probability of a token."""
    start = model.start_decoder(params, source, lengths=lengths)
    first = jnp.full(lengths.shape, START, jnp.int32)
    if width == 1:
        return rnn.decoding.greedy(model.decoder, *start, first, steps=steps, eos=END).tokens
    beams = rnn.decoding.beam_search(
        model.decoder, *start, first, steps=steps, eos=END, width=width, length_penalty=1.0
    )
    return beams.tokens[:, 0]


def translate(task: Task, model: EncoderDecoder, params, sources: list, size: int, longest: int, width: int):
    """Translations of the sources, which are padded to ``size``, in batches of 100."""
    texts, batch = [], 100
    for n in range(0, len(sources), batch):
        padded, lengths = pad(sources[n : n + batch], size, batch)
        ids = np.asarray(write(model, params, padded, lengths, steps=limit(task.name, longest), width=width))
        texts += [task.text(column) for column in ids.T[: len(sources) - n]]
    return texts


def limit(task: str, longest: int) -> int:
    """Largest number of decoded tokens."""
    return longest - 1 if task == "dates" else 50


def pad(sentences: list, size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded ids ``[size, batch]`` and their lengths."""
    padded, lengths = np.zeros((size, batch), np.int32), np.zeros(batch, np.int32)
    for b, ids in enumerate(sentences):
        padded[: len(ids), b], lengths[b] = ids, len(ids)
    return padded, lengths


# ---- the run ---------------------------------------------------------------------------------------------------------


def main() -> None:
    args = arguments()
    if args.sentence is not None:
        translate_sentence(args)
        return
    began = time.monotonic()
    common.require("matplotlib", *(["sacrebleu"] if args.data is not None else []))
    task = dates(args.pairs, min(args.pairs, 1000), args.seed) if args.data is None else multi30k(args.data)
    train, valid, test = map(task.ids, (task.train, task.valid, task.test))
    longest = max(len(b) for _, b in (*train, *valid, *test))

    def padded(pairs: list, **options: Any) -> Pairs:
        sources, targets = zip(*pairs, strict=True)
        return Pairs(sources, targets, args.batch, seed=args.seed, **options)

    shapes = padded([*train, *valid, *test], buckets=args.buckets).lengths  # the same for all splits
    data, held_out, tested = (padded(part, lengths=shapes, shuffle=part is train) for part in (train, valid, test))
    model = build(task, args.attention)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    out = common.run_folder(args.out, resume=args.resume)
    params = model.init(init_key)
    steps = args.steps or args.epochs * len(data)
    common.print_model(model, params)
    print(f"{len(train):,} training, {len(valid):,} validation and {len(test):,} test pairs; {len(task.source):,} and "
          f"{len(task.target):,} tokens; {len(data)} steps an epoch, {steps} steps")  # fmt: skip

    def evaluate(params, step):
        forced, free = (perplexity(model, params, held_out, p) for p in (1.0, 0.0))
        texts = translate(task, model, params, [a for a, _ in valid[:5]], shapes[-1], longest, 1)
        examples = [f"    {task.glue.join(a)}  →  {text}" for (a, _), text in zip(task.valid, texts)]
        return {"loss": math.log(forced), "forced": forced, "free": free, "examples": "\n".join(examples)}

    def format_metrics(m):
        if "grad_norm" in m:
            return f"loss {m['loss']:.3f}"
        return f"validation perplexity {m['forced']:.3f} teacher-forced, {m['free']:.3f} free-running"

    rate = optax.cosine_decay_schedule(args.rate, steps) if task.name == "dates" else args.rate
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    checkpoints = learning.Checkpoints(out, model, keep=1)
    first = max(checkpoints.steps(), default=0) if args.resume else 0
    if args.minutes:  # like Ctrl-C: the run saves and can be resumed
        timer = threading.Timer(60 * args.minutes, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    metadata = {"script": "translate", "task": task.name, "longest": longest}
    metadata |= {name: getattr(args, name) for name in ("pairs", "teacher_forcing", "batch", "buckets", "rate", "seed")}
    metadata |= {"source": task.source.symbols, "target": task.target.symbols}
    end = learning.fit(
        learning.train_step(learning.translation_loss(model, teacher_forcing=args.teacher_forcing), optimizer),
        learning.train_state(params, optimizer),
        data,
        steps=steps,
        key=key,
        mesh=args.mesh,
        evaluate=evaluate,
        evaluate_every=args.evaluate_every or (-(-steps // 3) if args.data is None else len(data)),
        checkpoints=checkpoints,
        metadata=metadata,
        log=out / "metrics.jsonl",
        resume=args.resume,
        format_metrics=format_metrics,
    )
    if args.minutes:
        timer.cancel()
    params, done = end.state.params, int(end.state.step)
    result = evaluate_test(task, model, params, tested, [a for a, _ in test], longest, args.width)
    tokens = np.mean([len(a) + len(b) for a, b in train]) * len(train) / len(data)  # of a batch, both sides
    speed = (done - first) / end.seconds
    result |= {"script": "translate", "task": task.name, "attention": args.attention, "steps": done,
               "tokens_per_second": round(speed * tokens), "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(f"{done} of {steps} steps, {speed * tokens:,.0f} tokens of source and target a second with evaluation"
          + (f"; all {steps} steps take about {steps / speed / 60:.1f} minutes" if speed else ""))  # fmt: skip
    common.draw_loss(out, 1.0, "token", f"Encoder and decoder, {task.name}")
    draw_attention(task, model, params, test, out, longest, shapes[-1])
    print(json.dumps(result))


def evaluate_test(
    task: Task, model: EncoderDecoder, params, data: Pairs, sources: list, longest: int, width: int
) -> dict[str, Any]:
    """Test perplexities, and exact translations or BLEU, by greedy and by beam search."""
    references = [task.glue.join(b) for _, b in task.test]
    result: dict[str, Any] = {
        "perplexity_forced": round(perplexity(model, params, data, 1.0), 4),
        "perplexity_free": round(perplexity(model, params, data, 0.0), 4),
    }
    print("test perplexity: {perplexity_forced} teacher-forced, {perplexity_free} free-running".format(**result))
    for name, beams in (("greedy", 1), (f"beam of {width}", width)):
        texts = translate(task, model, params, sources, data.lengths[-1], longest, beams)
        kind = name.split()[0]
        if task.name == "dates":
            result[f"exact_{kind}"] = float(np.mean([a == b for a, b in zip(texts, references)]))
            print(f"{name}: {result[f'exact_{kind}']:.2%} of {len(references):,} test dates exact")
            wrong = [(a, b, c) for (a, _), b, c in zip(task.test, texts, references) if b != c]
            for source, text, expected in wrong[:5]:
                print(f"    {''.join(source)}  →  {text}, correct: {expected}")
        else:
            result[f"bleu_{kind}"] = round(bleu(texts, references), 2)
            print(f"{name}: BLEU {result[f'bleu_{kind}']} on {len(references):,} sentences")
            for (source, _), text in list(zip(task.test, texts))[:3]:
                print(f"    {' '.join(source)}  →  {text}")
    if task.name != "dates":
        print("published after 10 epochs: perplexity 37.5 free-running, BLEU 20.6")
    return result


def bleu(texts: list[str], references: list[str]) -> float:
    """BLEU of tokens in lower case, between 0 and 100."""
    import sacrebleu

    return sacrebleu.corpus_bleu(texts, [references], tokenize="none", force=True).score


def draw_attention(
    task: Task, model: EncoderDecoder, params, test: list, out: pathlib.Path, longest: int, size: int
) -> None:
    """Plot the attention weights of four translations, if the decoder has attention."""
    if not any("AttentionCell" in repr(layer) for layer in model.decoder.layers):
        return
    figure, panels = common.subplots(2, 2, figsize=(13, 8))
    sources = [a for a, _ in test[:4]]
    padded, lengths = pad(sources, size, 100)
    written = write(model, params, padded, lengths, steps=limit(task.name, longest), width=1)
    tokens = np.concatenate([np.full((1, 100), START), written])
    counts = np.asarray(rnn.decoding.lengths(written, END))
    align = jax.jit(model.alignment)
    weights = np.asarray(align(params, padded, tokens.astype(np.int32), lengths=lengths, token_lengths=counts + 1))
    for n, axes in zip(range(len(sources)), panels.flat):
        S, T = lengths[n], counts[n]
        source, target = task.source.decode(sources[n]), task.target.decode(tokens[1 : T + 1, n])
        rnn.plots.attention(source, target, weights[:T, :S, n], axes)
    figure.suptitle("Attention weights of each decoded token")
    common.save_plot(figure, out / "attention.png", dpi=130)


def translate_sentence(args: argparse.Namespace) -> None:
    """Translate --sentence with the model in --out."""
    model, params, metadata = common.load_run("translate", args.out, "task", "source", "target", "longest")
    unknown = "<unk>" if metadata["task"] == "multi30k" else None
    source, target = (Vocabulary(tuple(metadata[side]), unknown) for side in ("source", "target"))
    task = Task(metadata["task"], [], [], [], source, target, "" if metadata["task"] == "dates" else " ")
    tokens = list(args.sentence.strip().lower()) if metadata["task"] == "dates" else words(args.sentence)
    if unknown is None:
        common.check_symbols("--sentence", tokens, source)
    ids = encode(source, tokens)
    print(translate(task, model, params, [ids], len(ids), metadata["longest"], args.width)[0])


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "", "200 steps on dates: half a minute", data_free=True)
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with the files of Multi30k (default: dates, which need no files)")
    add("--attention", choices=("none", "additive", "general", "dot"), help="default: additive for dates, else none")
    add("--teacher-forcing", type=probability, help="probability of teacher forcing (default: 1 for dates, else 0.5)")
    add("--epochs", type=positive, help="epochs to train (default: 2 for dates, else 10)")
    add("--steps", type=positive, quick=200, help="optimizer steps, in place of --epochs")
    add("--minutes", type=above_zero, help="save and end after so many minutes of training; --resume continues")
    add("--batch", type=positive, default=128, help="pairs of an optimizer step")
    add("--pairs", type=positive, default=40_000, help="dates of the training data")
    add("--buckets", type=positive, help="lengths to which sentences are padded (default: 2 for dates, else 4)")
    add("--rate", type=above_zero, help="learning rate of Adam (default: 4e-3 with cosine decay for dates, else 1e-3)")
    add("--width", type=positive, default=4, help="beam width")
    add("--evaluate-every", type=positive, metavar="STEPS", help="default: an epoch, or a third of a run on dates")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--sentence", metavar="TEXT", help="translate TEXT with the model in --out instead of training")
    args = parser.parse_args()
    dates = args.data is None
    defaults = {
        "attention": "additive" if dates else "none", "teacher_forcing": 1.0 if dates else 0.5,
        "epochs": 2 if dates else 10, "buckets": 2 if dates else 4, "rate": 4e-3 if dates else 1e-3,
    }  # fmt: skip
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out = args.out or f"runs/translate_{'dates' if dates else 'multi30k'}"
    if args.sentence is not None and not args.sentence.strip():
        parser.error("--sentence: expected at least one word, got an empty sentence")
    return args


if __name__ == "__main__":
    common.run(main)
