"""What every causal network is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

Draw = Callable[[Tensor], Tensor]
"""Outputs at one place, (N, O) → the values that are drawn there, (N, C)."""


class Causal(nn.Module, ABC):
    """f(v)_i depends on v_1, …, v_{i−1}, in raster order, and on all of a condition: the factors of a chain rule,

    p(v) = Π_i p(v_i | v_1, …, v_{i−1}).

    One of your own takes (inputs, outputs, height, width, condition) and gives both functions.

    Args:
        inputs: C, numbers of each value.
        outputs: O, numbers that come out at each place.
        height, width: of the maps.
        condition: M, maps that all outputs may depend on; 0 for none.
    """

    def __init__(self, inputs: int, outputs: int, height: int, width: int, condition: int = 0):
        super().__init__()
        self.inputs, self.outputs, self.height, self.width, self.condition = (
            inputs,
            outputs,
            height,
            width,
            condition,
        )

    @abstractmethod
    def forward(
        self, values: Float[Tensor, "N C H W"], condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N O H W"]:
        """Return all outputs in one pass."""

    @abstractmethod
    def generate(
        self, draw: Draw, n: int, condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N C H W"]:
        """n maps of values, drawn place by place, with nothing worked out twice."""
