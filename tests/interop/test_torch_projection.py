"""``nn.LSTM(proj_size=P)`` and ``LSTM(projection_size=P)``: values, gradients, weights and states, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import assert_close
from zoo import few, random_params, random_state

import jaxrnn as rnn
from jaxrnn.interop.torch import from_module, from_state, from_state_dict, to_module, to_state, to_state_dict

torch = pytest.importorskip("torch")
T, B, IN, H, P = 6, 3, 4, 5, 2
SETTINGS = [(layers, both, bias) for layers in (1, 2) for both in (False, True) for bias in (False, True)]
each = pytest.mark.parametrize(("layers", "both", "bias"), few(SETTINGS, [(1, False, True)]))


def make(layers, both, bias):
    torch.manual_seed(0)
    return torch.nn.LSTM(IN, H, layers, bias=bias, bidirectional=both, proj_size=P, dtype=torch.float64)


@each
def test_values_and_gradients(layers, both, bias, x64):
    """At 1e-10 in float64, initial states included."""
    module, D = make(layers, both, bias), layers * (1 + both)
    model, params = from_module(module)
    assert {cell.projection_size for cell in jax.tree.leaves(model, is_leaf=lambda m: isinstance(m, rnn.LSTM))
            if isinstance(cell, rnn.LSTM)} <= {P}  # fmt: skip
    rng = np.random.default_rng(0)
    xs, h, c = (rng.normal(size=shape) for shape in ((T, B, IN), (D, B, P), (D, B, H)))

    tensors = [torch.tensor(a, requires_grad=True) for a in (xs, h, c)]
    ys, (h_n, c_n) = module(tensors[0], (tensors[1], tensors[2]))
    (ys.sin().sum() + h_n.sin().sum() + c_n.sin().sum()).backward()

    def loss(params, xs, state):
        final, ys = rnn.unroll(model, params, xs, state)
        return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves((ys, final))), (ys, final)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, (got, final)), (d_params, d_xs, d_state) = gradient(params, jnp.asarray(xs), from_state(model, (h, c)))
    assert_close([got, *to_state(model, final)], [part.detach() for part in (ys, h_n, c_n)])
    assert_close([d_xs, *to_state(model, d_state)], [tensor.grad for tensor in tensors])
    d_weights = to_state_dict(model, d_params)
    for name, parameter in module.named_parameters():
        assert_close(d_weights[name.replace("bias_hh", "bias_ih")], parameter.grad)


@each
def test_round_trips(layers, both, bias, x64):
    """Weights and states, from both sides."""
    module = make(layers, both, bias)
    model, params = from_module(module)
    again = to_module(model, params)
    assert (again.proj_size, again.num_layers, again.bidirectional) == (P, layers, both)
    xs = torch.randn(T, B, IN, dtype=torch.float64)
    assert_close(again(xs)[0].detach(), module(xs)[0].detach())
    model_again, params_again = from_state_dict(to_state_dict(model, params))
    assert model_again == model
    assert_close(params_again, params, 0)
    state = random_state(model, (B,))
    assert_close(from_state(model, to_state(model, state)), state, 0)


def test_what_differs():
    """A projection as wide as the cell state, and clips, are not in PyTorch; one module has one setting."""
    wide = rnn.LSTM(IN, H, projection_size=H)
    with pytest.raises(ValueError, match=r"projection_size: expected fewer than hidden_size, 5, got 5"):
        to_module(wide, random_params(wide))
    clipped = rnn.LSTM(IN, H, projection_size=P, projection_clip=1.0)
    with pytest.raises(ValueError, match=r"model\.projection_clip: expected None, got 1\.0; .*no such option"):
        to_module(clipped, random_params(clipped))
    two = rnn.Stack(rnn.LSTM(IN, H, projection_size=P), rnn.LSTM(P, H))
    with pytest.raises(
        ValueError, match=r"layers\[1\]\.projection_size: expected 2, that of model\.layers\[0\], got None"
    ):
        to_state_dict(two, random_params(two))
    state_dict = make(1, False, True).float().state_dict()
    with pytest.raises(ValueError, match=r"weight_hh_l0: expected 20 rows, four times the columns of weight_hr"):
        from_state_dict({**state_dict, "weight_hh_l0": state_dict["weight_hh_l0"][:15]})
