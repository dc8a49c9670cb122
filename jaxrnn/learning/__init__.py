"""Learning: the train step, truncated back-propagation through time, the loop, checkpoints."""

from jaxrnn.learning.checkpoints import Checkpoint, Checkpoints, load_model, run_folder
from jaxrnn.learning.loop import Fit, NotFiniteError, fit
from jaxrnn.learning.step import TrainState, average_recurrent, mean_loss, several, train_state, train_step
from jaxrnn.learning.truncated import stream_loss, window

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Fit",
    "NotFiniteError",
    "TrainState",
    "average_recurrent",
    "fit",
    "load_model",
    "mean_loss",
    "run_folder",
    "several",
    "stream_loss",
    "train_state",
    "train_step",
    "window",
]
