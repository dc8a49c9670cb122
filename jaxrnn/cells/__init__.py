"""The recurrent cells, one family per file: the equations of one step and their differential. No scan is in here."""

from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.lru import LRU, LRUParams
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.mingru import MinGRU, MinGRUParams, MinLSTM, MinLSTMParams
from jaxrnn.cells.sru import SRU, SRUParams
from jaxrnn.cells.vanilla import VanillaParams, VanillaRNN

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "SRU",
    "GRUParams",
    "LRUParams",
    "LSTMParams",
    "LSTMState",
    "MinGRU",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMParams",
    "SRUParams",
    "VanillaParams",
    "VanillaRNN",
]
