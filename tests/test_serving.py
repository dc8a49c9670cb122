"""The server of the README: sessions keep their own states, whatever comes with them at the same time."""

import asyncio
import contextlib
import functools
import json
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as rnn

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")
(SERVER,) = re.findall(r"```python\n(import asyncio.*?\nclass Sessions:\n.*?)```", README, re.DOTALL)

MODEL = rnn.Stack(rnn.LSTM(3, 5), rnn.Linear(5, 2))
PARAMS = MODEL.init(jax.random.key(0))
X = np.zeros(3, np.float32)


NAMESPACE: dict = {"jax": jax, "jnp": jnp, "np": np}
exec(SERVER, NAMESPACE)


def sessions(model=MODEL, params=PARAMS, x=X, **options):
    """A new set of sessions."""
    return NAMESPACE["Sessions"](model, params, x, **options)


@contextlib.asynccontextmanager
async def running(server):
    """Step it for as long as the block lasts."""
    stepping = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        stepping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stepping


def inputs(seed, steps):
    return np.random.default_rng(seed).normal(size=(steps, 3)).astype(np.float32)


def expected(xs, model=MODEL, params=PARAMS):
    return rnn.unroll(model, params, jnp.array(xs))[1]


def calls(server):
    """Record the number of sessions of each batch."""
    sizes, advance = [], server.advance

    def recorded(params, rows):
        sizes.append(sum(row is not server.blank for row in rows))
        return advance(params, rows)

    server.advance = recorded
    return sizes, advance


def test_thirty_lines():
    """The class is short."""
    (lines,) = re.findall(r"(?m)^class Sessions:\n(?:(?:    .*)?\n)+", SERVER)
    assert len(lines.split("\n\n")) > 2
    assert len([line for line in lines.splitlines() if line]) <= 30


def test_random_interleavings():
    """More sessions than rows of a batch, in requests of random sizes at random moments: each is one unroll."""
    draw, steps = np.random.default_rng(0), 9

    async def visit(server, n, pieces, pauses):
        replies = []
        for xs, pause in zip(np.split(inputs(n, steps), pieces), pauses, strict=False):
            await asyncio.sleep(pause)
            replies.append(await server.feed(f"session {n}", xs.tolist()))
        return replies

    async def main():
        async with running(sessions(batch=4)) as server:
            sizes, advance = calls(server)
            visits = [
                visit(server, n, np.sort(draw.integers(0, steps + 1, 3)), draw.exponential(1e-3, 4)) for n in range(11)
            ]
            return await asyncio.gather(*visits), sizes, advance._cache_size()

    replies, sizes, compiled = asyncio.run(main())
    for n, answers in enumerate(replies):
        ys = np.concatenate([answer["ys"] for answer in answers if answer["ys"]])
        np.testing.assert_allclose(ys, expected(inputs(n, steps)), rtol=0, atol=1e-6)
        assert answers[-1]["count"] == steps
    assert max(sizes) == 4
    assert sum(sizes) == 11 * steps
    assert compiled == 1


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [3, 4, 10])
def test_those_that_wait_share_a_batch(waiting):
    """As few batches as there can be."""

    async def main():
        async with running(sessions(batch=4)) as server:
            sizes, _ = calls(server)
            await asyncio.gather(*[server.feed(n, inputs(n, 2)) for n in range(waiting)])
            return sizes

    sizes = asyncio.run(main())
    assert sum(sizes) == 2 * waiting
    assert len(sizes) <= 2 * math.ceil(waiting / 4)


@pytest.mark.slow
@pytest.mark.parametrize("idle", [600.0, 0.0])
def test_two_requests_of_one_session_follow_one_another(idle):
    """Also if the second comes before the first is answered; a session at work is not idle."""
    xs = inputs(0, 8)

    async def main():
        async with running(sessions(idle=idle)) as server:
            return await asyncio.gather(server.feed("a", xs[:5]), server.feed("b", xs), server.feed("a", xs[5:]))

    first, other, second = asyncio.run(main())
    np.testing.assert_allclose(first["ys"] + second["ys"], expected(xs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(other["ys"], expected(xs), rtol=0, atol=1e-6)
    assert (first["count"], second["count"]) == (5, 8)


@pytest.mark.slow
def test_an_idle_session_is_forgotten():
    """And starts again; one that is used is not."""
    xs = inputs(0, 6)

    async def main():
        async with running(sessions(idle=0.3)) as server:
            await server.feed("warm up", xs)
            await server.feed("idle", xs)
            used = []
            for x in xs:
                used.append(await server.feed("used", [x]))
                await asyncio.sleep(0.1)
            assert set(server.known) == {"used"}
            return used, await server.feed("idle", xs)

    used, again = asyncio.run(main())
    assert [reply["count"] for reply in used] == [1, 2, 3, 4, 5, 6]
    assert again["count"] == 6
    for ys in (again["ys"], [reply["ys"][0] for reply in used]):
        np.testing.assert_allclose(ys, expected(xs), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_token_ids_and_other_cells():
    """Inputs of any shape and dtype, states of any structure."""
    model = rnn.Stack(rnn.Embedding(7, 4), rnn.GRU(4, 4), rnn.Residual(rnn.VanillaRNN(4, 4)), rnn.Linear(4, 7))
    params = model.init(jax.random.key(1))

    async def main():
        async with running(sessions(model, params, np.zeros((), np.int32))) as server:
            return await asyncio.gather(server.feed(0, [1, 2, 3]), server.feed(1, [6]))

    for reply, ids in zip(asyncio.run(main()), ([1, 2, 3], [6]), strict=True):
        np.testing.assert_allclose(reply["ys"], expected(ids, model, params), rtol=0, atol=1e-6)


async def connections(server, *clients, limit=2**16):
    """The replies to each client, which sends lines of bytes in pieces."""

    async def client(port, lines):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        with contextlib.closing(writer):
            for line in lines:
                writer.write(line + b"\n")
                await writer.drain()
            writer.write_eof()
            return [json.loads(line, parse_constant=pytest.fail) async for line in reader]

    answer = functools.partial(NAMESPACE["serve"], server)
    async with await asyncio.start_server(answer, "127.0.0.1", limit=limit) as listening:
        port = listening.sockets[0].getsockname()[1]
        return await asyncio.gather(*[client(port, lines) for lines in clients])


def request(id, xs):
    return json.dumps([id, np.asarray(xs).tolist()]).encode()


BAD = {
    "features": (b'["a", [[1.0]]]', "expected finite inputs of shape (3,), got [[1.0]]"),
    "a later step": (b'["a", [[1, 2, 3], [1, 2, NaN]]]', "expected finite inputs of shape (3,), got"),
    "infinite": (b'["a", [[1, 2, 1e999]]]', "expected finite"),
    "too large": (b'["a", [[1, 2, 1e300]]]', "expected finite"),
    "far too large": (b'["a", [[1, 2, 1' + b"0" * 400 + b"]]]", ""),
    "ragged": (b'["a", [[1.0, 2.0], [3.0]]]', ""),
    "text": (b'["a", "?"]', ""),
    "a number": (b'["a", 1]', ""),
    "id": (b'[["a"], [[1, 2, 3]]]', "unhashable"),
    "no request": (b"[]", ""),
    "no list": (b"7", ""),
    "no JSON": (b'["a", [[1, 2', ""),
    "no text": (b"\xff\xfe\xfa", ""),
    "nothing": (b"", ""),
    "deep": (b"[" * 60_000, ""),
    "long": (b'["a", [' + b"[1, 2, 3], " * 50_000 + b"[1, 2, 3]]]", "the line is too long"),
    "a bit long": (b" " * 2**16 + b"[]", "the line is too long"),
}


def test_connections(recwarn):
    """A session may go on in another connection; one that does not fit changes nothing, and is answered."""
    xs = inputs(0, 6)

    async def main():
        failures = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        async with running(sessions()) as server:
            first = await connections(server, [request("a", xs[:2]), request("a", xs[2:3])])
            bad, other = await connections(server, [line for line, _ in BAD.values()], [request("b", xs)])
            last = await connections(server, [BAD["text"][0], request("a", xs[3:])])
        return [*first[0], last[0][1]], bad, other[0], failures

    answers, bad, other, failures = asyncio.run(main())
    assert not failures
    assert [list(reply) for reply in bad] == [["error"]] * len(BAD)
    for reply, (_, message) in zip(bad, BAD.values(), strict=True):
        assert message in reply["error"]
        assert 0 < len(reply["error"]) <= 200
    assert [answer["count"] for answer in answers] == [2, 3, 6]
    np.testing.assert_allclose([y for answer in answers for y in answer["ys"]], expected(xs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(other["ys"], expected(xs), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_outputs_that_are_not_finite():
    """An id outside the vocabulary: the steps before it do not count either."""
    model = rnn.Stack(rnn.Embedding(7, 4), rnn.GRU(4, 4))
    params = model.init(jax.random.key(1))

    async def main():
        async with running(sessions(model, params, np.zeros((), np.int32))) as server:
            first = await server.feed("a", [1, 2])
            for ids in ([3, 7], [2**40], ["x"]):
                with pytest.raises((ValueError, OverflowError)):
                    await server.feed("a", ids)
            return first, await server.feed("a", [3])

    first, last = asyncio.run(main())
    assert last["count"] == 3
    np.testing.assert_allclose(first["ys"] + last["ys"], expected([1, 2, 3], model, params), rtol=0, atol=1e-6)
