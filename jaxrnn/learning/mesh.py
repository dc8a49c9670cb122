"""Many devices: the cores of a CPU as devices, a mesh, and where batches and the train state lie on it.

The computation is one program over the whole batch (``jax.jit`` with shardings). JAX splits it over the devices and
inserts the sums between them, so that losses, masks, clipping and random numbers mean what they mean on one device.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn import checks
from jaxrnn.learning import processes
from jaxrnn.learning.provenance import digest
from jaxrnn.learning.step import TrainState
from jaxrnn.types import Array, Params, PyTree, State

MESH_FIX = "learning.device_mesh() makes one"

# ---- devices ----


def use_cores(n: int | None = None) -> int:
    """Make the cores of the CPU devices of JAX, so that :func:`device_mesh` can split a batch over them.

    On a CPU, XLA runs a loop over time on one core for the most part; two devices on two cores train up to twice as
    fast. Call it before JAX computes anything. It sets ``jax_num_cpu_devices``, and has no effect on GPUs and TPUs.

    Args:
        n: the number of devices; by default the cores that this process may use. With several processes on one
            machine give each its share.

    Returns:
        The number of CPU devices of this process.

    Raises:
        RuntimeError: JAX has started with another number of CPU devices.
        TypeError, ValueError: ``n`` is not a whole number above 0.

    Example:
        >>> from jaxrnn import learning
        >>> learning.use_cores() > 0  # doctest: +SKIP
        True
    """
    n = available_cores() if n is None else n
    checks.size("n", n)
    try:
        jax.config.update("jax_num_cpu_devices", int(n))
    except RuntimeError:
        started = len(jax.local_devices(backend="cpu"))
        if started != n:
            raise RuntimeError(
                f"use_cores: expected a call before JAX starts its devices, got one after it started with {started} "
                f"CPU device{'s' * (started > 1)} instead of {n}; call it right after the imports, or restart the "
                "runtime of the notebook"
            ) from None
    return int(n)


def available_cores() -> int:
    """The number of cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # not a Linux container, or no quota
        return cores


def device_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh:
    """Make a mesh with one axis ``"batch"`` over devices.

    Args:
        devices: by default all devices of all processes; or the first so many of them; or a list of devices.

    Raises:
        TypeError, ValueError: there are fewer devices, or ``devices`` is something else.

    Example:
        >>> import jax
        >>> from jaxrnn import learning
        >>> learning.device_mesh().axis_names
        ('batch',)
    """
    every = jax.devices()
    if devices is None:
        devices = every
    elif isinstance(devices, (int, np.integer)) and not isinstance(devices, bool):
        checks.size("devices", devices)
        if devices > len(every):
            checks.refuse("devices", f"at most {len(every)}, as many as JAX has", devices,
                          "learning.use_cores(n) before JAX starts makes n devices of a CPU")  # fmt: skip
        devices = every[: int(devices)]
    found = list(devices) if isinstance(devices, (list, tuple, np.ndarray)) else []
    if not found or not all(isinstance(device, jax.Device) for device in found):
        checks.refuse("devices", "devices, such as jax.devices()[:4], or their number", checks.describe(devices),
                      "device_mesh() takes all; fit also takes a jax.sharding.Mesh of your own", TypeError)  # fmt: skip
    return Mesh(np.array(found), ("batch",))


def shard_batch(batch: PyTree, mesh: Mesh, batch_spec: PyTree = None, *, stacked: bool = False) -> PyTree:
    """Split a batch over the devices of a mesh, for evaluation and decoding; :func:`fit` does it by itself.

    Args:
        batch: a pytree of arrays, the whole batch on every process; or one that is made inside ``jax.jit``.
        mesh: of :func:`device_mesh`, or any other.
        batch_spec: see :func:`fit`.
        stacked: whether the leaves have an axis more in front, for several batches.

    On several CPU devices wait for a result, ``float(loss)`` for instance, at least every 30 calls: with more than 32
    calls on their way that sum over the devices, XLA runs out of threads and ends the process. NPROC=2n in the
    environment, n the number of devices, avoids that too, and made training 1.2 times as slow.

    Raises:
        ValueError: a batch axis is not a multiple of the number of devices that it is split over.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> from jaxrnn import learning
        >>> mesh, model = learning.device_mesh(), rnn.GRU(3, 5)
        >>> xs = learning.shard_batch(jnp.ones((7, 4, 3)), mesh)  # [T, B, I], split along B
        >>> final, ys = jax.jit(lambda xs: rnn.unroll(model, model.init(jax.random.key(0)), xs))(xs)
        >>> ys.shape
        (7, 4, 5)
    """
    checks.instance("mesh", mesh, Mesh, MESH_FIX)
    checks.flag("stacked", stacked)
    return Placement(mesh, batch_spec).batch(batch, stacked=stacked)


def shard_state(state: TrainState, mesh: Mesh) -> TrainState:
    """Copy a train state to the devices of a mesh, for a training loop of your own; :func:`fit` does it by itself.

    Args:
        state: of :func:`train_state`. Its carry is split along axis 0, the rest is copied to every device; arrays that
            are sharded by axes of the mesh stay so.
        mesh: of :func:`device_mesh`, or any other.

    On several CPU devices wait for a result, ``float(loss)`` for instance, at least every 30 calls: with more than 32
    calls on their way that sum over the devices, XLA runs out of threads and ends the process. NPROC=2n in the
    environment, n the number of devices, avoids that too, and made training 1.2 times as slow.

    Raises:
        ValueError: axis 0 of the carry is not a multiple of the number of devices that it is split over, or the state
            is not the same on every process.

    Example:
        >>> import jax, jaxrnn as rnn, optax
        >>> from jaxrnn import learning
        >>> model, mesh = rnn.GRU(3, 8), learning.device_mesh()
        >>> state = learning.train_state(model.init(jax.random.key(0)), optax.sgd(0.1), model.initial_state((4,)))
        >>> learning.shard_state(state, mesh).carry.sharding.spec[0]
        'batch'
    """
    checks.instance("state", state, TrainState, "train_state(params, optimizer) makes one")
    checks.instance("mesh", mesh, Mesh, MESH_FIX)
    processes.check_same({"state": digest(state)})
    return Placement(mesh).state(state)


# ---- placement ----


class Layout(NamedTuple):
    """The shardings of the results of a compiled call, hashable."""

    structure: Any
    leaves: tuple[NamedSharding, ...]  # of the train state, or of a carry
    replicated: NamedSharding

    @property
    def state(self) -> PyTree:
        return jax.tree.unflatten(self.structure, self.leaves)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the arrays of a run lie. Without a mesh: where JAX puts them.

    Args:
        mesh: a mesh whose axis ``"batch"``, or its first axis if none has this name, splits batches.
        batch_spec: a tree prefix of partition specs for a batch; None stands for the default: ``[T, B, ...]`` is split
            along its axis 1, ``[B]`` along its axis 0.
        local_batches: whether a batch is only this process's part of the whole one.
    """

    mesh: Mesh | None
    batch_spec: PyTree = None
    local_batches: bool = False

    def __post_init__(self) -> None:
        checks.flag("local_batches", self.local_batches)
        if self.mesh is None:
            for name, value in (("batch_spec", self.batch_spec), ("local_batches", self.local_batches)):
                if value not in (None, False):
                    checks.refuse("mesh", f"a mesh, which {name} requires", None, "mesh=learning.device_mesh()")
            if jax.process_count() > 1:
                checks.refuse("mesh", f"a mesh over the devices of all {jax.process_count()} processes", None,
                              "mesh=learning.device_mesh()")  # fmt: skip
            return
        checks.instance("mesh", self.mesh, Mesh, MESH_FIX)
        missing = {*range(jax.process_count())} - {device.process_index for device in self.mesh.devices.flat}
        if missing:
            checks.refuse("mesh", f"devices of all {jax.process_count()} processes", f"none of {sorted(missing)}",
                          "mesh=learning.device_mesh()")  # fmt: skip
        for spec in jax.tree.leaves(self.batch_spec, is_leaf=_is_spec):
            if not isinstance(spec, PartitionSpec):
                checks.refuse("batch_spec", "a PartitionSpec for each leaf", checks.describe(spec),
                              'jax.sharding.PartitionSpec(None, "batch")', TypeError)  # fmt: skip
            for name in _names(spec):
                checks.one_of("batch_spec", name, self.mesh.axis_names)
        # With shardings as a part of types, every operation of a model would have to choose them.
        object.__setattr__(self, "mesh", Mesh(self.mesh.devices, self.mesh.axis_names))

    @property
    def batch_axis(self) -> str:
        """The axis of the mesh that splits batches."""
        assert self.mesh is not None
        return "batch" if "batch" in self.mesh.axis_names else self.mesh.axis_names[0]

    def _sharding(self, *spec: Any) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    # ---- the train state ----

    def state(self, state: TrainState) -> TrainState:
        """A copy of the state on its devices, which a compiled call may overwrite."""
        copy = jax.tree.map(jnp.copy, state)
        return copy if self.mesh is None else jax.tree.map(_put, copy, self.state_shardings(state))

    def state_shardings(self, state: TrainState) -> TrainState:
        """The carry is split along its axis 0, the rest is replicated; what is sharded by the same axes stays so."""

        def place(name: str, tree: PyTree, *default: str) -> PyTree:
            def sharding(path: tuple, x: Array) -> NamedSharding:
                kept = self._kept(x, *default)
                self._check_divisible(f"{name}{jax.tree_util.keystr(path)}", np.shape(x), kept.spec)
                return kept

            return jax.tree_util.tree_map_with_path(sharding, tree)

        return place("state", state._replace(carry=()))._replace(carry=place("carry", state.carry, self.batch_axis))

    def _kept(self, x: Array, *default: str) -> NamedSharding:
        """The sharding of an array that is sharded by axes of the mesh, else the default."""
        assert self.mesh is not None
        spec = getattr(getattr(x, "sharding", None), "spec", PartitionSpec())
        kept = _names(spec) and set(_names(spec)) <= set(self.mesh.axis_names)
        return NamedSharding(self.mesh, spec) if kept else self._sharding(*default[: np.ndim(x)])

    def model(self, params: Params, carry: State) -> tuple[Params, State]:
        """Parameters and carry on their devices, to be read only: what is there already is not copied."""
        if self.mesh is None:
            return params, carry
        state = TrainState(params, (), carry, *[()] * 3)  # type: ignore[arg-type]
        placed = jax.tree.map(_put, state, self.state_shardings(state))
        return placed.params, placed.carry

    def layout(self, state: PyTree) -> Layout | None:
        """Where a compiled call leaves its results, those of ``state`` where they are; None without a mesh."""
        if self.mesh is None:
            return None
        leaves, structure = jax.tree.flatten(state)
        return Layout(structure, tuple(leaf.sharding for leaf in leaves), self._sharding())

    # ---- the other arguments of a compiled call ----

    def key(self, key: Array) -> Array:
        """The random key, on every device."""
        return key if self.mesh is None else _put(key, self._sharding())

    def flag(self, value: bool) -> Array:
        """A flag of this process, ``[devices]``: those of all processes are one array."""
        assert self.mesh is not None
        return _put(np.full(self.mesh.size, value), self._sharding(self.mesh.axis_names))

    # ---- batches ----

    def stacked(self, batches: Sequence[PyTree]) -> PyTree:
        """The batches of a compiled call with a leading axis, on their devices."""
        stacked = jax.tree.map(lambda *leaves: _stack(leaves), *batches)
        return stacked if self.mesh is None else self.batch(stacked, stacked=True)

    def batch(self, batch: PyTree, *, stacked: bool = False) -> PyTree:
        """One batch, or stacked ones, on their devices."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(batch)
        placed = []
        for (path, leaf), spec in zip(leaves, self._specs(batch, stacked), strict=True):
            name = f"batches[n]{jax.tree_util.keystr(path)}"
            self._check_divisible(name, np.shape(leaf), spec, local=self.local_batches, leading=int(stacked))
            sharding = self._sharding(*spec)
            local = self.local_batches and jax.process_count() > 1
            placed.append(jax.make_array_from_process_local_data(sharding, leaf) if local else _put(leaf, sharding))
        return jax.tree.unflatten(structure, placed)

    def _specs(self, batch: PyTree, stacked: bool) -> list[PartitionSpec]:
        """One partition spec for each leaf."""
        leading = (None,) * stacked

        def default(leaf: Any) -> PartitionSpec:
            axes = np.ndim(leaf) - len(leading)
            return PartitionSpec(*leading, *((None, self.batch_axis) if axes > 1 else (self.batch_axis,) * axes))

        def fill(spec: PartitionSpec | None, part: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: default(leaf) if spec is None else PartitionSpec(*leading, *spec), part)

        try:
            specs = jax.tree.map(fill, self.batch_spec, batch, is_leaf=lambda x: x is None or _is_spec(x))
        except (TypeError, ValueError) as error:
            checks.refuse("batch_spec", f"a tree prefix of a batch, {checks.tree_summary(batch)}",
                          checks.tree_summary(self.batch_spec),
                          "a PartitionSpec for every entry, None for the default; or one for all leaves")  # fmt: skip
            raise AssertionError from error
        return jax.tree.leaves(specs, is_leaf=_is_spec)

    def _check_divisible(
        self, name: str, shape: tuple[int, ...], spec: PartitionSpec, *, local: bool = False, leading: int = 0
    ) -> None:
        """Refuse an array that cannot be split evenly."""
        assert self.mesh is not None
        sizes = (self.mesh.local_mesh if local else self.mesh).shape
        if len(spec) > len(shape):
            checks.refuse(
                "batch_spec", f"at most {len(shape) - leading} axes for {name}", spec, "give each leaf its own"
            )
        for axis, names in enumerate(spec):
            parts = math.prod(sizes[n] for n in _names(PartitionSpec(names)))
            if shape[axis] % parts:
                below = shape[axis] // parts * parts
                near = f"{below} or {below + parts}" if below else f"{parts}"
                checks.refuse(
                    name, f"axis {axis - leading} a multiple of {parts}, the devices that it is split over",
                    f"{shape[axis]}: {list(shape[leading:])}",
                    f"{near} of them, device_mesh(n) of fewer devices, or batch_spec= if the batch is another axis",
                )  # fmt: skip


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _names(spec: PartitionSpec) -> list[str]:
    """The mesh axes in a partition spec."""
    entries = [entry for entry in spec if entry is not None and entry is not PartitionSpec.UNCONSTRAINED]
    return [name for entry in entries for name in (entry if isinstance(entry, tuple) else (entry,))]


def _stack(leaves: Sequence[Any]) -> Any:
    """Arrays with a new axis in front: on their devices if they are on devices, else on the host."""
    on_devices = any(isinstance(leaf, jax.Array) for leaf in leaves)
    return jnp.stack(leaves) if on_devices else np.stack(leaves)


def _put(x: Any, sharding: NamedSharding) -> Array:
    """An array with a sharding; one of a single process must be the same on every process."""
    if isinstance(x, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(x, sharding)  # where device_put would do nothing
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.jit(lambda x: x, out_shardings=sharding)(x)
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
