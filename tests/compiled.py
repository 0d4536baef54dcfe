"""A backend of torch.compile for tests: it compiles nothing, and tells what ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Backend:
    """`graphs` has every graph that was made, in order; `runs` the index of each that ran."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self.graphs: list[torch.fx.GraphModule] = []
        self.runs: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        index = len(self.graphs)
        self.graphs.append(graph)

        def run(*inputs: Tensor) -> Any:
            self.runs.append(index)
            return graph.forward(*inputs)

        return run

    def count(self, *functions: Callable[..., Any]) -> list[int]:
        """How often each graph calls one of `functions`."""
        return [sum(node.target in functions for node in g.graph.nodes) for g in self.graphs]
