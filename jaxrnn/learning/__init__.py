"""Training: the train step, truncated back-propagation through time, the training loop, devices, checkpoints."""

from jaxrnn.learning.checkpoints import Checkpoint, Checkpoints, load_model, run_folder
from jaxrnn.learning.evaluation import evaluate
from jaxrnn.learning.loop import Fit, NonFiniteError, fit
from jaxrnn.learning.mesh import device_mesh, shard_batch, shard_state, use_cores
from jaxrnn.learning.step import TrainState, average_recurrent_gradient, mean_loss, scan_steps, train_state, train_step
from jaxrnn.learning.truncated import stream_loss, truncated_unroll

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Fit",
    "NonFiniteError",
    "TrainState",
    "average_recurrent_gradient",
    "device_mesh",
    "evaluate",
    "fit",
    "load_model",
    "mean_loss",
    "run_folder",
    "scan_steps",
    "shard_batch",
    "shard_state",
    "stream_loss",
    "train_state",
    "train_step",
    "truncated_unroll",
    "use_cores",
]
