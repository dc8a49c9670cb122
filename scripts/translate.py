"""Sequence to sequence: dates as people write them to ISO, or German to English.

    python scripts/translate.py                      # dates, characters, attention: 1 to 2 minutes
    python scripts/translate.py --quick              # half a minute, less exact
    python scripts/translate.py --sentence "the 3rd of march, 1998"      # with the model that was trained
    python scripts/translate.py --data DIR           # Multi30k: {train,val,test_2016_flickr}.{de,en}.gz in DIR
    python scripts/translate.py --data DIR --minutes 30, then the same with --resume

An encoder and a decoder of GRUs, with attention (--attention) or with the coded vector at every step. Of every date in
the test no form was seen in training. The Multi30k run is that of bentrevett's second PyTorch tutorial (Cho et al.
2014): words in lower case that occur twice, 10 epochs, half of the tokens taught; its published test perplexity is 37.5
and its BLEU 20.6. Model, metrics, loss curve and attention plot go to ``--out``; the last line printed is the result as
JSON.
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
from jaxrnn.data import Buckets, Vocabulary, datasets
from jaxrnn.tasks import AdditiveAttention, AttentionCell, ContextCell, DotAttention, EncoderDecoder, GeneralAttention

SPECIAL = ("<pad>", "<start>", "<end>")
START, END = 1, 2
Pair = tuple[list[str], list[str]]  # tokens of the source and of the target


class Task(NamedTuple):
    """What is translated, and how sentences are cut into tokens and put together again."""

    name: str
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    source: Vocabulary
    target: Vocabulary
    glue: str  # between tokens of the target

    def ids(self, pairs: list[Pair]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both sides as ids, from <start> to <end>."""
        return [(wrapped(self.source, a), wrapped(self.target, b)) for a, b in pairs]

    def text(self, ids) -> str:
        """The target's text before <end>."""
        words = list(itertools.takewhile(lambda word: word != "<end>", self.target.decode(np.asarray(ids))))
        return self.glue.join(words)


def wrapped(vocabulary: Vocabulary, tokens: list[str]) -> np.ndarray:
    """Tokens as ids, between <start> and <end>."""
    return np.array([START, *vocabulary.encode(tokens), END], np.int32)


# ---- dates -----------------------------------------------------------------------------------------------------------


def dates(count: int, tested: int, seed: int) -> Task:
    """Dates of two centuries; those of validation and test are on no day of the training."""
    draw = np.random.default_rng(seed)
    days = draw.permutation(np.arange(FIRST, LAST + 1))

    def pairs(days) -> list[Pair]:
        found = [datetime.date.fromordinal(int(day)) for day in days]
        ways = [forms(date) for date in found]
        return [(list(way[draw.integers(len(way))]), list(date.isoformat())) for date, way in zip(found, ways)]

    seen, unseen = days[2 * tested :], days[: 2 * tested]
    train, valid, test = pairs(draw.choice(seen, count)), pairs(unseen[:tested]), pairs(unseen[tested:])
    year = map(datetime.date.fromordinal, range(FIRST, FIRST + 365))  # its dates have every letter that a date can have
    source = Vocabulary.of("".join(itertools.chain(*map(forms, year))), special=SPECIAL)
    return Task("dates", train, valid, test, source, Vocabulary.of("0123456789-", special=SPECIAL), "")


# ---- German to English -----------------------------------------------------------------------------------------------


def words(sentence: str) -> list[str]:
    """Words and punctuation in lower case."""
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def multi30k(folder: str) -> Task:
    """Captions of pictures; a word that occurs once is <unk>."""
    found = {split: [(words(a), words(b)) for a, b in pairs] for split, pairs in datasets.multi30k(folder).items()}
    sides = zip(*found["train"])
    source, target = (
        Vocabulary.of(itertools.chain(*side), least=2, unknown="<unk>", special=(*SPECIAL, "<unk>")) for side in sides
    )
    return Task("multi30k", found["train"], found["val"], found["test"], source, target, " ")


# ---- model -----------------------------------------------------------------------------------------------------------


def attending(kind: str, memory: int, units: int) -> Any:
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

    def gru(takes: int, gives: int) -> rnn.GRU:
        return rnn.GRU(takes, gives, reset_after=True)

    context = units  # features of what is coded
    reader: Any
    cell: Any
    if attention == "none":
        reader, cell = gru(embedding, units), ContextCell(gru(embedding + context, units), context)
    else:
        reader = rnn.Bidirectional(gru(embedding, units // 2))
        cell = AttentionCell(gru(embedding + context, units), attending(attention, context, units))
    encoder = rnn.Stack(*embedded(task.source), reader)
    decoder = rnn.Stack(*embedded(task.target), rnn.Residual(cell, "concat"),
                        rnn.Linear(embedding + units + context, len(task.target)))  # fmt: skip
    model = EncoderDecoder(encoder, decoder, bridge=attention != "none")
    return model if task.name == "dates" else rnn.initializers.everywhere(model, rnn.initializers.normal(0.01))


# ---- data, loss, writing ---------------------------------------------------------------------------------------------


def batches(pairs: list[tuple[np.ndarray, np.ndarray]], batch: int, **options: Any) -> Buckets:
    """Batches of pairs, both sides padded to one length: ``inputs [L, B, 2]``, ``targets [B, 2]`` their own lengths."""
    both = []
    for pair in pairs:
        padded = np.zeros((max(map(len, pair)), 2), np.int32)
        for side, ids in enumerate(pair):
            padded[: len(ids), side] = ids
        both.append(padded)
    lengths = [np.array([len(a), len(b)], np.int32) for a, b in pairs]
    return Buckets(both, lengths, batch, aligned=False, **options)


def loss_of(model: EncoderDecoder, params, batch: Any, longest: int, teacher_forcing: float, key=None):
    """Cross entropy of a batch, and how many tokens it has; ``longest`` is the longest target there is."""
    source, tokens = batch.inputs[..., 0], batch.inputs[:longest, ..., 1]
    read, written = batch.targets[:, 0], batch.targets[:, 1]
    nats = model.loss(
        params, source, tokens, lengths=read, token_lengths=written, teacher_forcing=teacher_forcing, key=key
    )
    return nats, jnp.maximum(written - 1, 0).sum()


_judged = jax.jit(loss_of, static_argnames=("model", "longest", "teaching"))


def perplexity(model: EncoderDecoder, params, data: Buckets, longest: int, teacher_forcing: float) -> float:
    """Of all tokens of a data set: teacher-forced at 1, free-running at 0."""
    sums = [_judged(model, params, data[n], longest, teacher_forcing) for n in range(len(data))]
    counts = np.array([float(count) for _, count in sums])
    return math.exp(float(np.dot([float(nats) for nats, _ in sums], counts) / counts.sum()))


@functools.partial(jax.jit, static_argnames=("model", "steps", "width"))
def write(model: EncoderDecoder, params, source, lengths, *, steps: int, width: int):
    """Translations ``[steps, B]``; width 1 is greedy, more is beam search by the mean log probability of a token."""
    start = model.start_decoder(params, source, lengths=lengths)
    first = jnp.full(lengths.shape, START, jnp.int32)
    if width == 1:
        return rnn.decoding.greedy(model.decoder, *start, first, steps=steps, eos=END).tokens
    found = rnn.decoding.beam_search(
        model.decoder, *start, first, steps=steps, eos=END, width=width, length_penalty=1.0
    )
    return found.tokens[:, 0]


def translate(task: Task, model: EncoderDecoder, params, sources: list, size: int, longest: int, width: int):
    """Translations in the order of the sources, which are padded to ``size``, 100 at a time."""
    texts, batch = [], 100
    for n in range(0, len(sources), batch):
        padded, lengths = side_by_side(sources[n : n + batch], size, batch)
        ids = np.asarray(write(model, params, padded, lengths, steps=limit(task.name, longest), width=width))
        texts += [task.text(column) for column in ids.T[: len(sources) - n]]
    return texts


def limit(task: str, longest: int) -> int:
    """How many tokens are written at most."""
    return longest - 1 if task == "dates" else 50


def side_by_side(sentences: list, size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids ``[size, batch]``, padded, and their lengths."""
    padded, lengths = np.zeros((size, batch), np.int32), np.zeros(batch, np.int32)
    for b, ids in enumerate(sentences):
        padded[: len(ids), b], lengths[b] = ids, len(ids)
    return padded, lengths


# ---- the run ---------------------------------------------------------------------------------------------------------


def main() -> None:
    args = arguments()
    if args.sentence is not None:
        one_sentence(args)
        return
    began = time.monotonic()
    common.needs("matplotlib", *(["sacrebleu"] if args.data is not None else []))
    task = dates(args.pairs, min(args.pairs, 1000), args.seed) if args.data is None else multi30k(args.data)
    train, valid, test = map(task.ids, (task.train, task.valid, task.test))
    longest = max(len(b) for _, b in (*train, *valid, *test))
    shapes = batches([*train, *valid, *test], args.batch, buckets=args.buckets).lengths  # the same for all
    data, held_out, tested = (
        batches(pairs, args.batch, lengths=shapes, shuffle=pairs is train, seed=args.seed)
        for pairs in (train, valid, test)
    )
    model = build(task, args.attention)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    out = common.run_folder(args.out, resume=args.resume)
    params = model.init(init_key)
    steps = args.steps or args.epochs * len(data)
    print(model, f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters", sep="\n")
    print(f"{len(train):,} pairs to learn from, {len(valid):,} and {len(test):,} to judge; {len(task.source):,} and "
          f"{len(task.target):,} tokens; {len(data)} steps an epoch, {steps} steps")  # fmt: skip

    def loss(params, carry, batch, key):
        return loss_of(model, params, batch, longest, args.teaching, key)[0], ((), {})

    def evaluate(params, step):
        told = {name: perplexity(model, params, held_out, longest, p) for name, p in (("forced", 1.0), ("free", 0.0))}
        few = valid[:5]
        texts = translate(task, model, params, [a for a, _ in few], shapes[-1], longest, 1)
        shown = [f"    {task.glue.join(a)}  →  {text}" for (a, _), text in zip(task.valid, texts)]
        return {"loss": math.log(told["forced"]), **told, "examples": "\n".join(shown)}

    def format_metrics(m):
        if "grad_norm" in m:
            return f"loss {m['loss']:.3f}"
        return f"validation perplexity {m['forced']:.3f} teacher-forced, {m['free']:.3f} free-running"

    rate = optax.cosine_decay_schedule(args.rate, steps) if task.name == "dates" else args.rate
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    checkpoints = learning.Checkpoints(out, model, keep=1)
    before = max(checkpoints.steps(), default=0) if args.resume else 0
    if args.minutes:  # as if Ctrl-C were pressed then: the run saves and can be resumed
        timer = threading.Timer(60 * args.minutes, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    metadata = {"script": "translate", "task": task.name, "longest": longest}
    metadata |= {name: getattr(args, name) for name in ("pairs", "teaching", "batch", "buckets", "rate", "seed")}
    metadata |= {"source": task.source.symbols, "target": task.target.symbols}
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        data,
        steps=steps,
        key=key,
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
    result = judge(task, model, params, tested, [a for a, _ in test], longest, args.width)
    tokens = np.mean([len(a) + len(b) for a, b in train]) * len(train) / len(data)  # of a batch, both sides
    speed = (done - before) / end.seconds
    result |= {"script": "translate", "task": task.name, "attention": args.attention, "steps": done,
               "tokens_per_second": round(speed * tokens), "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(f"{done} of {steps} steps, {speed * tokens:,.0f} tokens of source and target a second with evaluation"
          + (f"; all {steps} steps take about {steps / speed / 60:.1f} minutes" if speed else ""))  # fmt: skip
    common.draw_loss(out, 1.0, "token", f"Encoder and decoder, {task.name}")
    print(f"{out / 'loss.png'} is drawn")
    draw_attention(task, model, params, test, out, longest, shapes[-1])
    print(json.dumps(result))


def judge(task: Task, model: EncoderDecoder, params, data: Buckets, sources: list, longest: int, most: int) -> dict:
    """The test: exact translations, perplexities, BLEU; greedy and by beam."""
    right = [task.glue.join(b) for _, b in task.test]
    result: dict[str, Any] = {
        "perplexity_forced": round(perplexity(model, params, data, longest, 1.0), 4),
        "perplexity_free": round(perplexity(model, params, data, longest, 0.0), 4),
    }
    print("test perplexity: {perplexity_forced} teacher-forced, {perplexity_free} free-running".format(**result))
    for name, width in (("greedy", 1), (f"beam of {most}", most)):
        texts = translate(task, model, params, sources, data.lengths[-1], longest, width)
        kind = name.split()[0]
        if task.name == "dates":
            result[f"exact_{kind}"] = float(np.mean([a == b for a, b in zip(texts, right)]))
            print(f"{name}: {result[f'exact_{kind}']:.2%} of {len(right):,} unseen dates exact")
            wrong = [(a, b, c) for (a, _), b, c in zip(task.test, texts, right) if b != c]
            for source, got, expected in wrong[:5]:
                print(f"    {''.join(source)}  →  {got}, right: {expected}")
        else:
            result[f"bleu_{kind}"] = round(bleu(texts, right), 2)
            print(f"{name}: BLEU {result[f'bleu_{kind}']} on {len(right):,} sentences")
            for (source, _), got in list(zip(task.test, texts))[:3]:
                print(f"    {' '.join(source)}  →  {got}")
    if task.name != "dates":
        print("published after 10 epochs: perplexity 37.5 free-running, BLEU 20.6")
    return result


def bleu(texts: list[str], right: list[str]) -> float:
    """BLEU of tokens in lower case, between 0 and 100."""
    import sacrebleu

    return sacrebleu.corpus_bleu(texts, [right], tokenize="none", force=True).score


def draw_attention(
    task: Task, model: EncoderDecoder, params, test: list, out: pathlib.Path, longest: int, size: int
) -> None:
    """Where the decoder looked for each token of four translations, if it has attention."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not any("AttentionCell" in repr(layer) for layer in model.decoder.layers):
        return
    figure, places = plt.subplots(2, 2, figsize=(13, 8), layout="constrained")
    sources = [a for a, _ in test[:4]]
    padded, lengths = side_by_side(sources, size, 100)
    written = write(model, params, padded, lengths, steps=limit(task.name, longest), width=1)
    tokens = np.concatenate([np.full((1, 100), START), written])
    counts = np.asarray(rnn.decoding.lengths(written, END))
    align = jax.jit(model.alignment)
    weights = np.asarray(align(params, padded, tokens.astype(np.int32), lengths=lengths, token_lengths=counts + 1))
    for n, axes in zip(range(len(sources)), places.flat):
        S, T = lengths[n], counts[n]
        image = axes.imshow(weights[:T, :S, n], cmap="viridis", vmin=0, vmax=1, aspect="auto")
        read, said = task.source.decode(sources[n]), task.target.decode(tokens[1 : T + 1, n])
        signs = {"<start>": "⊢", "<end>": "⊣", " ": "␣"}
        axes.set_xticks(range(S), [signs.get(s, s) for s in read], rotation=90 if task.glue else 0)
        axes.set_yticks(range(T), [signs.get(s, s) for s in said])
        axes.set(xlabel="source, as read", ylabel="target, as written")
    figure.colorbar(image, ax=places, label="weight of attention")
    figure.suptitle("Where the decoder looks for each token it writes (⊢ start, ⊣ end)")
    figure.savefig(out / "attention.png", dpi=130)
    print(f"{out / 'attention.png'} is drawn")


def one_sentence(args: argparse.Namespace) -> None:
    """Translate what was typed with the model in --out."""
    model, params, metadata = common.load_run("translate", args.out, "task", "source", "target", "longest")
    unknown = "<unk>" if metadata["task"] == "multi30k" else None
    source, target = (Vocabulary(tuple(metadata[side]), unknown) for side in ("source", "target"))
    task = Task(metadata["task"], [], [], [], source, target, "" if metadata["task"] == "dates" else " ")
    tokens = list(args.sentence.strip().lower()) if metadata["task"] == "dates" else words(args.sentence)
    if unknown is None:
        common.known("--sentence", tokens, source)
    ids = wrapped(source, tokens)
    print(translate(task, model, params, [ids], len(ids), metadata["longest"], args.width)[0])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with the files of Multi30k; default: dates, which need none")
    add("--attention", choices=("none", "additive", "general", "dot"), help="default: additive for dates, else none")
    add("--teaching", type=probability, help="probability that the right token is fed; default: 1 for dates, else 0.5")
    add("--epochs", type=positive, help="default: 2 for dates, else 10")
    add("--steps", type=positive, help="optimizer steps, in place of --epochs")
    add("--minutes", type=above_zero, help="stop and save after so many minutes of training; --resume goes on")
    add("--batch", type=positive, default=128)
    add("--pairs", type=positive, default=40_000, help="dates to learn from")
    add("--buckets", type=positive, help="lengths that sentences are padded to; default: 2 for dates, else 4")
    add("--rate", type=above_zero, help="learning rate of Adam; default: 4e-3 falling to 0 for dates, else 1e-3")
    add("--width", type=positive, default=4, help="width of the beam")
    add("--evaluate-every", type=positive, metavar="STEPS", help="default: an epoch, or a third of a run on dates")
    add("--seed", type=common.seed, default=0)
    add("--out", type=common.folder, help="folder of the run; default: runs/translate_dates or runs/translate_multi30k")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--sentence", metavar="TEXT", help="translate TEXT with the model in --out instead of training")
    add("--quick", action="store_true", help="200 steps")
    args = parser.parse_args()
    dates = args.data is None
    args.attention = args.attention or ("additive" if dates else "none")
    args.teaching = args.teaching if args.teaching is not None else (1.0 if dates else 0.5)
    args.epochs = args.epochs or (2 if dates else 10)
    args.buckets = args.buckets or (2 if dates else 4)
    args.rate = args.rate or (4e-3 if dates else 1e-3)
    args.out = args.out or f"runs/translate_{'dates' if dates else 'multi30k'}"
    args.steps = args.steps or (200 if args.quick else None)
    if args.sentence is not None and not args.sentence.strip():
        parser.error("--sentence: expected at least one word, got an empty sentence")
    return args


if __name__ == "__main__":
    common.run(main)
