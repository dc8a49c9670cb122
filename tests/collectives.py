"""Which collective operations a compiled program holds, and whether they are inside of a loop."""

from __future__ import annotations

import re
from typing import NamedTuple

KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
INSTRUCTION = re.compile(rf"= (\(.*?\)|\S+) ((?:ragged-)?(?:{KINDS}))(?:-start)?\(")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
CALLED = re.compile(r"(\w+)=\{?(%[\w.-]+(?:, %[\w.-]+)*)")


class Collective(NamedTuple):
    kind: str
    shapes: tuple[str, ...]  # of the results, "f32[3,16]"; "f32[]" is a scalar
    in_loop: bool


def collectives(text: str) -> list[Collective]:
    """The collective operations of the text of a compiled program."""
    lines: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            name = match[1]
        lines.setdefault(name, []).append(line)
    called = {name: [] for name in lines}  # (the attribute by which it is called, the computation)
    for name, body in lines.items():
        for attribute, names in CALLED.findall("\n".join(body)):
            called[name] += [(attribute, other.lstrip("%")) for other in names.split(", ")]
    looped = {other for calls in called.values() for attribute, other in calls if attribute in ("body", "condition")}
    pending = list(looped)
    while pending:  # and all that they call
        for _, other in called.get(pending.pop(), []):
            if other not in looped:
                looped.add(other)
                pending.append(other)
    return [
        Collective(kind, tuple(re.findall(r"\w+\[[\d,]*\]", shapes)), name in looped)
        for name, body in lines.items()
        for shapes, kind in INSTRUCTION.findall("\n".join(body))
    ]
