"""The shapes of problem: thin pieces over cells and layers.

Many to one: :class:`Classifier`. One to many: :class:`Captioner`. Many to many of another length:
:class:`EncoderDecoder`. Many to many step by step needs no piece of its own, ``rnn.unroll`` is all;
:class:`Delayed` hides a step's own input, to fill blanks from both sides.
"""

from jaxrnn.tasks import pooling
from jaxrnn.tasks.aligned import Delayed, DelayedState
from jaxrnn.tasks.attention import AdditiveAttention, Attention, DotAttention, GeneralAttention, Source
from jaxrnn.tasks.classifier import Classifier, ClassifierParams
from jaxrnn.tasks.context import Attending, AttendingState, Conditioned, Encoded, about
from jaxrnn.tasks.encoder_decoder import Captioner, EncoderDecoder, WriterParams
from jaxrnn.tasks.pooling import AttentionPooling

__all__ = [
    "AdditiveAttention",
    "Attending",
    "AttendingState",
    "Attention",
    "AttentionPooling",
    "Captioner",
    "Classifier",
    "ClassifierParams",
    "Conditioned",
    "Delayed",
    "DelayedState",
    "DotAttention",
    "Encoded",
    "EncoderDecoder",
    "GeneralAttention",
    "Source",
    "WriterParams",
    "about",
    "pooling",
]
