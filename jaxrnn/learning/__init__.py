"""Training: the train step, truncated back-propagation through time, the training loop, devices, checkpoints."""

from jaxrnn.learning.checkpoints import Checkpoint, Checkpoints, load_model, run_folder
from jaxrnn.learning.evaluation import evaluate
from jaxrnn.learning.loop import Fit, fit
from jaxrnn.learning.mesh import device_mesh, shard_batch, shard_state, use_cores
from jaxrnn.learning.nonfinite import NonFiniteError
from jaxrnn.learning.objectives import (
    classification_loss,
    crf_loss,
    crf_outputs,
    ctc_loss,
    regression_loss,
    sequence_outputs,
    step_outputs,
    tagging_loss,
    translation_loss,
    translation_outputs,
)
from jaxrnn.learning.step import TrainState, average_recurrent_gradient, mean_loss, scan_steps, train_state, train_step
from jaxrnn.learning.truncated import stream_loss, truncated_unroll

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Fit",
    "NonFiniteError",
    "TrainState",
    "average_recurrent_gradient",
    "classification_loss",
    "crf_loss",
    "crf_outputs",
    "ctc_loss",
    "device_mesh",
    "evaluate",
    "fit",
    "load_model",
    "mean_loss",
    "regression_loss",
    "run_folder",
    "scan_steps",
    "sequence_outputs",
    "shard_batch",
    "shard_state",
    "step_outputs",
    "stream_loss",
    "tagging_loss",
    "train_state",
    "train_step",
    "translation_loss",
    "translation_outputs",
    "truncated_unroll",
    "use_cores",
]
