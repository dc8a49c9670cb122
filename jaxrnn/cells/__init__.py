"""The recurrences: equations only, one family a file. Nothing here knows how time is scanned."""

from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.vanilla import VanillaParams, VanillaRNN

__all__ = ["GRU", "LSTM", "GRUParams", "LSTMParams", "LSTMState", "VanillaParams", "VanillaRNN"]
