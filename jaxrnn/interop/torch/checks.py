"""Checks of modules of PyTorch: known classes, that compute what their class does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from jaxrnn import checks
from jaxrnn.interop.checks import class_name
from jaxrnn.interop.torch.functions import ANY
from jaxrnn.interop.torch.state_dicts import torch_library

IN_TRAINING = "or, as it acts in training only, from_module(module, inference=True)"
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
BACKWARD_HOOKS = ("_backward_pre_hooks", "_backward_hooks")
REMOVED = {  # hooks of PyTorch, the attribute with the name of their weight, and what removes them
    "WeightNorm": ("name", "torch.nn.utils.remove_weight_norm"),
    "SpectralNorm": ("name", "torch.nn.utils.remove_spectral_norm"),
}
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
NEUTRAL = {  # options of nn.Embedding, their values that jaxrnn has, and what the others do
    "max_norm": (None, "it changes the weights in every forward pass"),
}
NEUTRAL_IN_TRAINING = {
    "padding_idx": (None, "its row gets no gradient there: set module.padding_idx = None if it may be trained here"),
    "scale_grad_by_freq": (False, "it changes the gradient"),
    "sparse": (False, "jaxrnn has no sparse gradients"),
}


def check_plain(place: str, module: Any, inference: bool) -> None:
    """A module without hooks, and with the forward of its class."""
    if "forward" in vars(module):
        checks.refuse(f"{place}.forward", f"that of {class_name(module)}", "another one of this module alone",
                      f"what it computes cannot be read: del {place}.forward")  # fmt: skip
    for name in HOOKS if inference else HOOKS + BACKWARD_HOOKS:
        for hook in getattr(module, name).values():
            checks.refuse(f"{place}.{name}", "no hooks", getattr(hook, "__name__", type(hook).__name__),
                          _without_hook(place, name, hook))  # fmt: skip


def _without_hook(place: str, name: str, hook: Any) -> str:
    """How to remove a hook of a user, or a reparametrization of PyTorch that is one."""
    if type(hook).__name__ in REMOVED:
        attribute, remove = REMOVED[type(hook).__name__]
        return f"{remove}({place}, {getattr(hook, attribute)!r}) gives plain weights"
    if type(hook).__module__ == "torch.nn.utils.prune":
        return f"torch.nn.utils.prune.remove({place}, {hook._tensor_name!r}) gives plain weights"
    if getattr(hook, "__name__", "") == "_infer_parameters":
        return "call the lazy module once: its sizes follow from inputs"
    fix = f"what it does cannot be read: remove it, {place}.{name}.clear()"
    return f"{fix}; {IN_TRAINING}" if name in BACKWARD_HOOKS else fix


def check_embedding(place: str, module: Any, inference: bool) -> None:
    """The options of an nn.Embedding that jaxrnn has."""
    for options, more in ((NEUTRAL, ""), ({} if inference else NEUTRAL_IN_TRAINING, f"; {IN_TRAINING}")):
        for option, (neutral, reason) in options.items():
            if (value := getattr(module, option)) != neutral:
                checks.refuse(f"{place}.{option}", repr(neutral), repr(value), reason + more)


def check_own_weights(parts: list[tuple[str, Any]]) -> None:
    """No parameter belongs to two modules, as those of a tied readout do."""
    owners: dict[int, str] = {}
    for place, module in parts:
        for name, parameter in module.named_parameters(remove_duplicate=False):
            owner = owners.setdefault(id(parameter), f"{place}.{name}")
            if owner != f"{place}.{name}":
                checks.refuse(f"{place}.{name}", "weights of its own", f"those of {owner}",
                              "rnn.Tied shares an embedding with its readout; clone other weights")  # fmt: skip


def refuse_module(place: str, module: Any) -> NoReturn:
    """Refuse a module of a class without counterpart, with what converts in its place."""
    checks.refuse(place, "an nn.RNN, nn.LSTM or nn.GRU or one of their cells, an nn.Embedding, nn.Linear, nn.Dropout "
                  "or activation, or an nn.Sequential or list of these", class_name(module), _fix(place, module),
                  TypeError)  # fmt: skip


def _fix(place: str, module: Any) -> str:
    torch = torch_library()
    name = type(module).__name__
    if isinstance(module, Mapping):
        return "from_state_dict(state_dict) converts the weights of a recurrent module"
    if not isinstance(module, torch.nn.Module):
        return "an instance of such a class"
    if name in WRAPPERS:
        return f"it wraps a module: from_module({place}.{WRAPPERS[name]})"
    if isinstance(module, torch.jit.ScriptModule):
        return "pass the module that was scripted or traced, or load its state_dict into one"
    if torch.nn.utils.parametrize.is_parametrized(module):
        weights = ", ".join(f"torch.nn.utils.parametrize.remove_parametrizations({place}, {weight!r})"
                            for weight in module.parametrizations)  # fmt: skip
        return f"{weights} gives plain weights"
    if type(module).__module__.startswith("torch."):
        activation = type(module).__module__ == torch.nn.Tanh.__module__ and not module.state_dict()
        return ANY if activation else "jaxrnn has no counterpart of it"
    children = [f"{place}.{name}" if name.isidentifier() else f"{place}[{name}]" for name, _ in module.named_children()]
    if children:
        return f"from_module([{', '.join(children)}]) converts its parts: give them in the order of its forward"
    return "the forward of a class of your own may be different"
