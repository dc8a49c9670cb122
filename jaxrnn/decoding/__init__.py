"""Generating sequences: one token after another, each fed back as the next input.

The model is any cell or layer from token ids to logits: ``model.step(params, state, token)`` returns the next state and
logits ``[..., V]``. Every loop runs inside ``jit`` and is compiled once for each model; for a model that is not
immutable it is compiled at each call, unless the call itself is inside ``jit``.

Generated tokens are fed back, so a model may give logits only for tokens that it can take as inputs. A model with a
``vocabulary_size``, such as an Embedding or a Stack that starts with one, is refused if it gives more logits than that.
NaN in parameters or states is refused if their values are known; under ``jit`` they are not, and the log probabilities
are NaN.

:func:`ctc_greedy` and :func:`ctc_beam_search` decode logits of steps that are there already, those of a model trained
with :func:`jaxrnn.losses.ctc`.

On CPU, XLA runs a step as a sequence of small kernels. The flag
``XLA_FLAGS=--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000``, in the environment before
Python starts, compiles the whole loop into one kernel. For one sequence that halves the time of a step at 32 units,
saves a tenth at 128 and nothing at 256. It affects every loop of the process, so this library never sets it.
"""

from jaxrnn.decoding.beam import Beams, beam_search
from jaxrnn.decoding.ctc import Labels, ctc_beam_search, ctc_greedy
from jaxrnn.decoding.generation import Decoded, lengths, log_probabilities
from jaxrnn.decoding.sampling import filter_logits, greedy, sample, sample_token, stream

__all__ = [
    "Beams",
    "Decoded",
    "Labels",
    "beam_search",
    "ctc_beam_search",
    "ctc_greedy",
    "filter_logits",
    "greedy",
    "lengths",
    "log_probabilities",
    "sample",
    "sample_token",
    "stream",
]
