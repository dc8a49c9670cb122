"""What :mod:`jaxrnn.interop.nnx` and :mod:`jaxrnn.interop.linen` share: the modules of Flax and the layers of jaxrnn.

================================================  ===========================================
Flax                                              jaxrnn
================================================  ===========================================
``RNN(cell)``                                     the cell
``RNN(cell, reverse=True, keep_order=True)``      ``Reverse(cell)``
``Bidirectional(RNN(a), RNN(b), merge_fn=...)``   ``Bidirectional(a, b, merge)``
``LSTMCell``, ``OptimizedLSTMCell``               ``LSTM``, which becomes the optimized one
``GRUCell``                                       ``GRU(..., reset_after=True)``
``SimpleCell``                                    ``VanillaRNN``
``MGUCell`` of linen                              ``MGU(..., reset="keep", reset_after=True)``
``MGUCell(reset_gate=False)`` of linen            ``MGU(..., reset="none")``
``ConvLSTMCell`` of linen                         ``ConvLSTM``, its 1 in the forget gate in ``b_h``
``Embed``, ``Linear`` or ``Dense``, ``Dropout``   ``Embedding``, ``Linear``, ``Dropout``
``Sequential``, and a function in it              ``Stack``, ``Activation``
================================================  ===========================================

A carry of an LSTM is ``(c, h)``, a state ``LSTMState(h, c)``. Flax is batch-first, ``[B, T, I]``, where a module is not
``time_major``; jaxrnn is time-major. In the padding after ``seq_lengths`` outputs of Flax have no meaning, those of
jaxrnn are 0.
"""
