"""Writing sequences: one token after another, fed back as the next input.

Over any model from token ids to scores, whatever its state is: ``model.step(params, state, token)`` gives the next
state and scores ``[..., V]``. Every loop runs inside ``jit``, compiled once for each model; a model that is not
immutable is compiled anew at each call, unless the call itself is inside ``jit``.

What is written is fed back, so a model may score no token that it cannot take. One that says its ``vocabulary_size``,
as an Embedding and a Stack that starts with one do, is refused where it scores more tokens than that. NaN in parameters
or states is refused where their values are known; under ``jit`` they are not, and log probabilities tell.

On CPU, XLA runs a step as a row of small kernels. The flag
``XLA_FLAGS=--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000``, in the environment before
Python starts, folds the whole loop into one kernel. For one sequence that halves the time of a step at 32 units, saves
a tenth at 128 and nothing at 256. It acts on every loop of the process, so this library never sets it.
"""

from jaxrnn.decoding.beam import Beams, beam_search
from jaxrnn.decoding.generation import Decoded, lengths, log_probabilities
from jaxrnn.decoding.sampling import filter_logits, greedy, sample, sample_token, stream

__all__ = [
    "Beams",
    "Decoded",
    "beam_search",
    "filter_logits",
    "greedy",
    "lengths",
    "log_probabilities",
    "sample",
    "sample_token",
    "stream",
]
