"""Models for kinds of task, built of cells and layers.

Many to one: :class:`Classifier`. One to many: :class:`Captioner`. Many to many, of another length:
:class:`EncoderDecoder`. Many to many with one output a step needs only ``rnn.unroll``; with :class:`DelayCell` the
output of a step does not depend on its input, to predict each token from both sides, and with :class:`Tagger` the tags
of a sequence are chosen together, by a :class:`CRF`. Real-valued series: :class:`Forecaster`,
:class:`DirectForecaster`. Acting in an environment: :class:`ActorCritic`.
"""

from jaxrnn.tasks import pooling
from jaxrnn.tasks.actor_critic import ActorCritic, ActorCriticParams, Experience, Moment
from jaxrnn.tasks.attention import AdditiveAttention, Attention, AttentionMemory, DotAttention, GeneralAttention
from jaxrnn.tasks.classifier import Classifier, ClassifierParams
from jaxrnn.tasks.context import AttentionCell, AttentionCellState, ContextCell, EncoderOutput, with_context
from jaxrnn.tasks.crf import CRF, CRFParams, Path
from jaxrnn.tasks.delay import DelayCell, DelayCellState
from jaxrnn.tasks.encoder_decoder import Captioner, EncoderDecoder, EncoderDecoderParams
from jaxrnn.tasks.forecasting import DirectForecaster, Forecaster, ForecasterParams
from jaxrnn.tasks.pooling import AttentionPooling
from jaxrnn.tasks.tagger import Tagger, TaggerParams

__all__ = [
    "CRF",
    "ActorCritic",
    "ActorCriticParams",
    "AdditiveAttention",
    "Attention",
    "AttentionCell",
    "AttentionCellState",
    "AttentionMemory",
    "AttentionPooling",
    "CRFParams",
    "Captioner",
    "Classifier",
    "ClassifierParams",
    "ContextCell",
    "DelayCell",
    "DelayCellState",
    "DirectForecaster",
    "DotAttention",
    "EncoderDecoder",
    "EncoderDecoderParams",
    "EncoderOutput",
    "Experience",
    "Forecaster",
    "ForecasterParams",
    "GeneralAttention",
    "Moment",
    "Path",
    "Tagger",
    "TaggerParams",
    "pooling",
    "with_context",
]
