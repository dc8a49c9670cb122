"""The recurrent cells, one family per file: the equations of one step and their differential. No scan is in here."""

from jaxrnn.cells.conv_lstm import ConvLSTM, ConvLSTMParams
from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.gru_d import GRUD, GRUDParams, GRUDState
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.vanilla import VanillaParams, VanillaRNN

__all__ = [
    "GRU",
    "GRUD",
    "LSTM",
    "ConvLSTM",
    "ConvLSTMParams",
    "GRUDParams",
    "GRUDState",
    "GRUParams",
    "LSTMParams",
    "LSTMState",
    "VanillaParams",
    "VanillaRNN",
]
