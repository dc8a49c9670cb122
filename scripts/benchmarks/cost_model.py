"""What a data-parallel training step costs on many devices, on paper: equations, and the figures put into them.

With parameters replicated, a step is the same work on a share of the batch on every device, one all-reduce of the
gradient, which has the size of the parameters, and the same update everywhere; nothing is sent inside a scan. Of a
recurrent layer the time steps follow one another, and each takes a fixed time however small the batch is: on an
accelerator the launch of its kernels, not their arithmetic, is what a small model waits for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

GATES = {"lstm": 4, "gru": 3}
FLOAT = 4  # bytes of a parameter and of its gradient
MOST_DEVICES = 2**16  # no prediction goes further


class Network(NamedTuple):
    """Embedding, recurrent layers and readout over a vocabulary: B sequences of T steps, H units."""

    name: str
    cell: str
    batch: int
    steps: int
    embedding: int
    hidden: int
    layers: int = 1
    directions: int = 1
    vocabulary: int = 103

    @property
    def widths(self) -> list[int]:
        """Input size of each recurrent layer."""
        return [self.embedding, *[self.directions * self.hidden] * (self.layers - 1)]

    @property
    def parameters(self) -> int:
        H, G, V, D = self.hidden, GATES[self.cell], self.vocabulary, self.directions
        recurrent = sum(D * (I + H + 1) * G * H for I in self.widths)  # noqa: E741
        return V * self.embedding + recurrent + (D * H + 1) * V

    @property
    def loops(self) -> int:
        """Scans of a training step, one after another: of each layer and direction, forward and backward."""
        return 2 * self.layers * self.directions


# ---- compute ---------------------------------------------------------------------------------------------------------


class Device(NamedTuple):
    """What computes a share of the batch."""

    name: str
    rate: float  # FLOP/s that large products reach
    step_latency: float  # seconds that a time step of a scan takes at least
    memory: float  # bytes/s
    cache: float  # bytes of weights that stay on the chip from one time step to the next


def recurrent_flops(net: Network, batch: float) -> float:
    """F_rec = 2 B H G H of one time step of one layer and direction."""
    return 2 * batch * net.hidden * GATES[net.cell] * net.hidden


def parallel_flops(net: Network, batch: float) -> float:
    """All that waits for no earlier time step: inputs and readout (x3 with backward), and the gradient of w_hh."""
    G, H, D = GATES[net.cell], net.hidden, net.directions
    inputs = sum(D * 2 * batch * I * G * H for I in net.widths)  # F_in = 2 B I G H  # noqa: E741
    readout = 2 * batch * D * H * net.vocabulary
    w_hh = net.layers * D * recurrent_flops(net, batch)
    return net.steps * (3 * inputs + 3 * readout + w_hh)


def step_flops(net: Network, batch: float) -> float:
    """FLOPs of a training step: 3 (F_rec + F_in + F_readout) T."""
    return parallel_flops(net, batch) + net.steps * net.loops * recurrent_flops(net, batch)


def time_step(net: Network, batch: float, device: Device) -> float:
    """Seconds of one time step in a scan: its latency, reading w_hh, or its arithmetic, whichever is longest."""
    w_hh = FLOAT * net.hidden * GATES[net.cell] * net.hidden
    reading = w_hh / device.memory if w_hh > device.cache else 0.0
    return max(device.step_latency, reading, recurrent_flops(net, batch) / device.rate)


def update(net: Network, device: Device) -> float:
    """Seconds of Adam: reads parameters, gradient and two moments, writes all but the gradient; not divided by n."""
    return 7 * FLOAT * net.parameters / device.memory


def compute(net: Network, batch: float, device: Device) -> float:
    """Seconds of a training step on one device without communication: max(FLOPs, latency) in the scans."""
    scans = net.loops * net.steps * time_step(net, batch, device)
    return scans + parallel_flops(net, batch) / device.rate + update(net, device)


# ---- communication ---------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """Between two neighbours."""

    bandwidth: float  # bytes/s of a device, in each direction
    latency: float  # seconds of a message
    tree: bool  # whether small messages are summed along a tree, as NCCL does


def all_reduce(nbytes: float, n: int, link: Link) -> float:
    """Seconds to sum bytes over n devices: ring 2 (n-1)/n b/W + 2 (n-1) a, tree 2 b/W + 2 log2(n) a."""
    if n == 1:
        return 0.0
    ring = 2 * (n - 1) / n * nbytes / link.bandwidth + 2 * (n - 1) * link.latency
    tree = 2 * nbytes / link.bandwidth + 2 * math.ceil(math.log2(n)) * link.latency
    return min(ring, tree) if link.tree else ring


class Cluster(NamedTuple):
    """Hosts of equal devices."""

    name: str
    device: Device
    a_host: int  # devices of a host
    within: Link
    between: Link  # of each device, to its peers in the other hosts

    def hosts(self, n: int) -> int:
        return math.ceil(n / self.a_host)

    def all_reduce(self, nbytes: float, n: int) -> float:
        """Within each host, then each device its share between the hosts."""
        inside = min(n, self.a_host)
        return all_reduce(nbytes, inside, self.within) + all_reduce(nbytes / inside, self.hosts(n), self.between)


# ---- scaling ---------------------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """A training step on n devices, in seconds, and what n devices gain over one."""

    devices: int
    batch: float  # sequences a device
    compute: float
    communication: float
    efficiency: float

    @property
    def seconds(self) -> float:
        return self.compute + self.communication


def strong(net: Network, n: int, cluster: Cluster) -> Prediction:
    """The batch of the network divided by n; efficiency t(1) / (n t(n))."""
    share = compute(net, net.batch / n, cluster.device)
    sending = cluster.all_reduce(FLOAT * net.parameters, n)
    alone = compute(net, net.batch, cluster.device)
    return Prediction(n, net.batch / n, share, sending, alone / n / (share + sending))


def weak(net: Network, n: int, cluster: Cluster) -> Prediction:
    """The batch of the network on every device; efficiency t(1) / t(n)."""
    share, sending = compute(net, net.batch, cluster.device), cluster.all_reduce(FLOAT * net.parameters, n)
    return Prediction(n, net.batch, share, sending, share / (share + sending))


def first(true_of: Callable[[int], bool], most: int) -> int | None:
    """The first power of two, from 2 to ``most``, of which something is true; None if there is none."""
    return next((n for n in (2**k for k in range(1, most.bit_length())) if true_of(n)), None)


def communication_bound(kind: Callable[..., Prediction], net: Network, cluster: Cluster) -> int | None:
    """The number of devices from which communication takes as long as computing."""

    def longer(n: int) -> bool:
        found = kind(net, n, cluster)
        return found.communication >= found.compute

    return first(longer, net.batch if kind is strong else MOST_DEVICES)


def half_efficient(kind: Callable[..., Prediction], net: Network, cluster: Cluster) -> int | None:
    """The number of devices from which the efficiency is below 1/2."""
    return first(lambda n: kind(net, n, cluster).efficiency < 0.5, net.batch if kind is strong else MOST_DEVICES)


def remedies(net: Network, n: int, cluster: Cluster) -> dict[str, float]:
    """Efficiency of weak scaling, as it is and with each of what helps: time to compute over time in all."""
    nbytes, device = FLOAT * net.parameters, cluster.device
    alone, sending = compute(net, net.batch, device), cluster.all_reduce(nbytes, n)
    larger = compute(net, 4 * net.batch, device)
    accumulated = 4 * alone - 3 * update(net, device)
    return {
        "as it is": alone / (alone + sending),
        "4 times the batch a device": larger / (larger + sending),
        "gradient accumulated over 4 batches": accumulated / (accumulated + sending),
        "gradient sent in bfloat16": alone / (alone + cluster.all_reduce(nbytes / 2, n)),
        "sent while computing, at best": alone / max(alone, sending),
    }


# ---- figures ---------------------------------------------------------------------------------------------------------

ACCELERATOR = Device("accelerator", rate=200e12, step_latency=20e-6, memory=3.35e12, cache=50e6)
CPU_HOST = Device("CPU host", rate=1e12, step_latency=3e-6, memory=100e9, cache=32e6)
NVLINK = Link(450e9, 2e-6, tree=True)
BETWEEN = Link(50e9, 5e-6, tree=True)
ETHERNET_25 = Link(25e9 / 8, 30e-6, tree=False)
ETHERNET_100 = Link(100e9 / 8, 30e-6, tree=False)
CLUSTERS = (
    Cluster("accelerators, 8 a host", ACCELERATOR, 8, NVLINK, BETWEEN),
    Cluster("accelerators, 1 a host", ACCELERATOR, 1, NVLINK, BETWEEN),
    Cluster("CPU hosts, 25 Gbit/s", CPU_HOST, 1, ETHERNET_25, ETHERNET_25),
    Cluster("CPU hosts, 100 Gbit/s", CPU_HOST, 1, ETHERNET_100, ETHERNET_100),
)
COUNTS = {"accelerators, 8 a host": (8, 64), "accelerators, 1 a host": (8, 64)}  # of the others 64
CHAR_LM = Network("char_lm", "lstm", batch=32, steps=64, embedding=64, hidden=256)
LARGE = Network("large", "lstm", batch=64, steps=64, embedding=2048, hidden=2048, layers=4, vocabulary=100_000)
MEASURED = (
    CHAR_LM,
    Network("lstm-20x200", "lstm", batch=20, steps=128, embedding=200, hidden=200),
    Network("lstm-64x256", "lstm", batch=64, steps=128, embedding=256, hidden=256),
    Network("gru-32x128", "gru", batch=32, steps=128, embedding=128, hidden=128),
    Network("bidirectional-32x128", "lstm", batch=32, steps=128, embedding=128, hidden=128, directions=2),
)


def assumptions() -> list[str]:
    """The figures above in words."""
    found = [
        f"- {d.name}: {d.rate / 1e12:g} TFLOP/s in products, {d.step_latency * 1e6:g} µs or more a time step of a "
        f"scan, memory {d.memory / 1e9:,.0f} GB/s, w_hh up to {d.cache / 1e6:g} MB stays on the chip"
        for d in (ACCELERATOR, CPU_HOST)
    ]
    links = {"within a host": NVLINK, "between hosts": BETWEEN, "25 Gbit/s": ETHERNET_25, "100 Gbit/s": ETHERNET_100}
    return found + [
        f"- {name}: {link.bandwidth / 1e9:g} GB/s a device, {link.latency * 1e6:g} µs a message, "
        + ("ring or tree" if link.tree else "ring")
        for name, link in links.items()
    ] + ["- parameters and gradient in float32, Adam, nothing sent while computing"]  # fmt: skip


def report(nets: Iterable[Network] = (CHAR_LM, LARGE)) -> str:
    """The predictions as Markdown tables, after their assumptions."""
    lines = ["## Predictions", "", "Assumed:", "", *assumptions(), ""]
    for net in nets:
        nbytes = FLOAT * net.parameters
        size = f"{nbytes / 1e9:.2f} GB" if nbytes > 1e9 else f"{nbytes / 1e6:.2f} MB"
        flops = step_flops(net, net.batch)
        lines += [
            f"### {net.name}: {net.layers} × {net.cell.upper()} {net.hidden}, vocabulary {net.vocabulary:,}, batch "
            f"{net.batch}, T {net.steps}", "",
            f"{size} of parameters are all-reduced in a step of {flops / 1e9:,.1f} GFLOP.", "",
            "| devices | hosts | one device, ms | all-reduce, ms | strong, ms | speed-up | efficiency | weak, ms | "
            "efficiency |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]  # fmt: skip
        for cluster in CLUSTERS:
            alone = compute(net, net.batch, cluster.device)
            for n in COUNTS.get(cluster.name, (64,)):
                w, s = weak(net, n, cluster), strong(net, n, cluster)
                fixed = f"{s.seconds * 1e3:.3g} | {n * s.efficiency:.2g} | {s.efficiency:.0%}"
                if n > net.batch:
                    fixed = "batch too small | | "
                lines.append(
                    f"| {n} {cluster.name} | {cluster.hosts(n)} | {alone * 1e3:.3g} | {w.communication * 1e3:.2g} | "
                    f"{fixed} | {w.seconds * 1e3:.3g} | {w.efficiency:.0%} |"
                )
        lines += ["", "Where it stops: the first power of two of devices", "",
                  "| | strong: all-reduce ≥ compute | strong: efficiency < 1/2 | weak: all-reduce ≥ compute | "
                  "weak: efficiency < 1/2 |", "|---|---:|---:|---:|---:|"]  # fmt: skip
        for cluster in CLUSTERS:
            found = [limit(kind, net, cluster) for kind in (strong, weak)
                     for limit in (communication_bound, half_efficient)]  # fmt: skip
            most = [net.batch, net.batch, MOST_DEVICES, MOST_DEVICES]
            words = [f"{n:,}" if n else f"not up to {last:,}" for n, last in zip(found, most, strict=True)]
            lines.append(f"| {cluster.name} | {' | '.join(words)} |")
        lines += ["", "Weak scaling to 64 devices, and what would be done:", ""]
        by_cluster = {cluster.name: remedies(net, 64, cluster) for cluster in CLUSTERS}
        lines += ["| | " + " | ".join(by_cluster) + " |", "|---" + "|---:" * len(by_cluster) + "|"]
        for remedy in next(iter(by_cluster.values())):
            lines.append(f"| {remedy} | " + " | ".join(f"{by[remedy]:.0%}" for by in by_cluster.values()) + " |")
        lines.append("")
    return "\n".join(lines)
