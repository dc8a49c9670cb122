"""The recurrent cells, one family per file: the equations of one step and their differential. No scan is in here."""

from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.indrnn import IndRNN, IndRNNParams
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.vanilla import VanillaParams, VanillaRNN

__all__ = [
    "GRU",
    "LSTM",
    "GRUParams",
    "IndRNN",
    "IndRNNParams",
    "LSTMParams",
    "LSTMState",
    "VanillaParams",
    "VanillaRNN",
]
