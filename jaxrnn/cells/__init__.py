"""The recurrent cells, one family per file: the equations of one step and their differential. No scan is in here."""

from jaxrnn.cells.conv_lstm import ConvLSTM, ConvLSTMParams
from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.gru_d import GRUD, GRUDParams, GRUDState
from jaxrnn.cells.indrnn import IndRNN, IndRNNParams
from jaxrnn.cells.janet import JANET, JANETParams
from jaxrnn.cells.leaky import LeakyParams, LeakyRNN
from jaxrnn.cells.lru import LRU, LRUParams
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.mgu import MGU, MGUParams
from jaxrnn.cells.mingru import MinGRU, MinGRUParams, MinLSTM, MinLSTMParams
from jaxrnn.cells.multiplicative_lstm import MultiplicativeLSTM, MultiplicativeLSTMParams
from jaxrnn.cells.slstm import SLSTM, SLSTMParams, SLSTMState
from jaxrnn.cells.sru import SRU, SRUParams
from jaxrnn.cells.vanilla import VanillaParams, VanillaRNN

__all__ = [
    "GRU",
    "GRUD",
    "JANET",
    "LRU",
    "LSTM",
    "MGU",
    "SLSTM",
    "SRU",
    "ConvLSTM",
    "ConvLSTMParams",
    "GRUDParams",
    "GRUDState",
    "GRUParams",
    "IndRNN",
    "IndRNNParams",
    "JANETParams",
    "LRUParams",
    "LSTMParams",
    "LSTMState",
    "LeakyParams",
    "LeakyRNN",
    "MGUParams",
    "MinGRU",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMParams",
    "MultiplicativeLSTM",
    "MultiplicativeLSTMParams",
    "SLSTMParams",
    "SLSTMState",
    "SRUParams",
    "VanillaParams",
    "VanillaRNN",
]
