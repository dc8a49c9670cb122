"""The server of the README: sessions keep their own states, whatever comes with them at the same time."""

import asyncio
import contextlib
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


def sessions(model=MODEL, params=PARAMS, x=X, **options):
    """A new set of sessions."""
    namespace = {"jax": jax, "jnp": jnp, "np": np}
    exec(SERVER, namespace)
    return namespace["Sessions"](model, params, x, **options)


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
    """The server is as short as it is said to be."""
    assert len([line for line in SERVER.splitlines() if line and not line.startswith("import")]) <= 30


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


@pytest.mark.slow
def test_connections():
    """A session may go on in another connection; a request that does not fit ends its own connection only."""
    xs = inputs(0, 6)

    async def main():
        async with running(sessions()) as server:
            listening = await asyncio.start_server(server.serve, "127.0.0.1")

            async def ask(*requests):
                reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
                with contextlib.closing(writer):
                    writer.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
                    return [json.loads(line) if line else None for line in [await reader.readline() for _ in requests]]

            async with listening:
                asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
                answers = await ask(["a", xs[:2].tolist()], ["a", xs[2:3].tolist()])
                (other, *_), *bad = await asyncio.gather(
                    ask(["b", xs.tolist()]),
                    ask(["a", [[1.0]]]),
                    ask(["a", "?"]),
                    ask([]),
                    ask(["a", [[1.0, 2.0], [3.0]]]),
                )
                answers += await ask(["a", xs[3:].tolist()])
                return answers, other, bad

    answers, other, bad = asyncio.run(main())
    assert bad == [[None]] * 4
    assert [answer["count"] for answer in answers] == [2, 3, 6]
    np.testing.assert_allclose([y for answer in answers for y in answer["ys"]], expected(xs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(other["ys"], expected(xs), rtol=0, atol=1e-6)
