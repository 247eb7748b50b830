"""A gated PixelCNN."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae.causal.causal import Causal, Draw
from vae.checks import ConfigError, check_int
from vae.progress import through


class PixelCNN(Causal):
    """Two stacks of gated convolutions: one sees the rows above, the other those and what is to the left.

    Gates, stacks and links between them are those of van den Oord et al. 2016, Conditional image generation with
    PixelCNN decoders, sections 2.1 to 2.3: h = tanh(W_f v + V_f s) ⊙ σ(W_g v + V_g s). A place sees `layers` ·
    ⌊kernel/2⌋ places in each direction, as far as they are before it.

    Args:
        inputs, outputs, height, width, condition: see `Causal`.
        channels: maps of each stack.
        layers: gated layers.
        kernel: places on a side of a convolution, odd.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        height: int,
        width: int,
        condition: int = 0,
        channels: int = 64,
        layers: int = 5,
        kernel: int = 5,
    ):
        super().__init__(inputs, outputs, height, width, condition)
        check_int("channels", channels)
        if check_int("kernel", kernel, minimum=3, maximum=99) % 2 == 0:
            raise ConfigError(f"kernel={kernel}: must be odd")
        self.layers = nn.ModuleList(
            GatedLayer(channels if place else inputs, channels, kernel, condition, is_first=place == 0)
            for place in range(check_int("layers", layers, maximum=1000))
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, outputs, 1)
        )

    def forward(
        self, values: Float[Tensor, "N C H W"], condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N O H W"]:
        """Return all outputs in one pass."""
        above = left = values
        for layer in self.layers:
            above, left = layer(above, left, condition)
        return self.head(left)

    @torch.no_grad()
    def generate(
        self, draw: Draw, n: int, condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N C H W"]:
        """n maps of values, drawn place by place; what a stack has found of earlier places is kept."""
        layers = [layer for layer in self.layers if isinstance(layer, GatedLayer)]
        values = layers[0].across.weight.new_zeros(n, self.inputs, self.height, self.width)
        rows = [RowByRow(layer, n, self.width, condition) for layer in layers]
        for r in through(range(self.height), "drawing row by row", self.height):
            for row in rows:
                row.begin(r)
            for c in range(self.width):
                h = rows[0].at(c, None)
                for row in rows[1:]:
                    h = row.at(c, h)
                values[:, :, r, c] = draw(self.head(h[..., None, None])[..., 0, 0])
                rows[0].put(c, values[:, :, r, c])
            above = values[:, :, r]
            for row in rows:
                above = row.end(above)
        return values


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Args:
        inputs: maps of the layer before.
        channels: its own.
        kernel: places on a side.
        condition: maps of the condition.
        is_first: whether the layer before is the values themselves, of which a place must not see its own.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, condition: int, is_first: bool):
        super().__init__()
        self.side, self.is_first = kernel // 2, is_first
        self.down = nn.Conv2d(inputs, 2 * channels, (self.side + 1, kernel))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.across = nn.Conv2d(inputs, 2 * channels, (1, self.side + (0 if is_first else 1)))
        self.out = nn.Conv2d(channels, channels, 1)
        self.given = nn.Conv2d(condition, 4 * channels, 1) if condition else None

    def forward(
        self,
        above: Float[Tensor, "N C H W"],
        left: Float[Tensor, "N C H W"],
        condition: Float[Tensor, "N M H W"] | None,
    ) -> tuple[Float[Tensor, "N D H W"], Float[Tensor, "N D H W"]]:
        """Return the next maps of what sees rows down to its own, and of what sees those above and to the left."""
        to_above, to_left = self.of_condition(condition)
        rows = self.down(F.pad(above, (self.side, self.side, self.side, 0))) + to_above
        # A place may see the rows above its own only, so that these are moved down by one.
        linked = self.link(F.pad(rows, (0, 0, 1, 0))[..., :-1, :])
        across = self.across(F.pad(left, (self.side, 0, 0, 0)))[..., : left.shape[-1]]
        new = self.out(gate(across + linked + to_left))
        return gate(rows), new if self.is_first else left + new

    def of_condition(self, condition: Tensor | None) -> tuple[Tensor | float, Tensor | float]:
        """Return what the condition adds to each stack."""
        return (0.0, 0.0) if self.given is None else self.given(condition).chunk(2, dim=1)


class RowByRow:
    """A layer that is given one value after the other, and keeps what it needs of those before.

    Args:
        layer: the layer.
        n: how many maps at a time.
        width: of the maps.
        condition: as in `GatedLayer`.
    """

    def __init__(self, layer: GatedLayer, n: int, width: int, condition: Tensor | None):
        self.layer = layer
        weight = layer.down.weight
        inputs, side = weight.shape[1], layer.side
        self.above = weight.new_zeros(n, inputs, side + 1, width)
        self.rows = weight.new_zeros(n, weight.shape[0], 1, width)
        self.left = weight.new_zeros(n, inputs, width + side)
        self.to_above, self.to_left = layer.of_condition(condition)
        self.linked = torch.empty(0)
        self.place = 0
        # (2D, C·k), as a product of matrices is quicker than a convolution at one place.
        self.weight = layer.across.weight.squeeze(2).flatten(1)
        self.out = layer.out.weight[..., 0, 0]

    def begin(self, r: int) -> None:
        """Begin a row: what comes from the rows above."""
        # Above the first row is nothing, not a row of nothing.
        linked = self.layer.link(self.rows if r else torch.zeros_like(self.rows))
        given = self.to_left[..., r : r + 1, :] if isinstance(self.to_left, Tensor) else 0.0
        self.linked = (linked + given)[:, :, 0]
        self.left.zero_()
        self.place = r

    def at(self, c: int, left: Float[Tensor, "N C"] | None) -> Float[Tensor, "N D"]:
        """Return the next map of the second stack at column c, given its input there; the first layer has none
        yet.
        """
        layer = self.layer
        if left is not None:
            self.put(c, left)
        k = layer.across.weight.shape[-1]
        window = self.left[..., c : c + k].flatten(1)
        across = F.linear(window, self.weight, layer.across.bias)
        new = F.linear(gate(across + self.linked[..., c]), self.out, layer.out.bias)
        return new if left is None else left + new

    def put(self, c: int, value: Float[Tensor, "N C"]) -> None:
        """Note the input of the second stack at column c."""
        self.left[..., c + self.layer.side] = value

    def end(self, above: Float[Tensor, "N C W"]) -> Float[Tensor, "N D W"]:
        """End a row, given the first stack's input of it; its next maps of this row."""
        self.above = torch.cat((self.above[:, :, 1:], above[:, :, None]), 2)
        side, r = self.layer.side, self.place
        given = self.to_above[..., r : r + 1, :] if isinstance(self.to_above, Tensor) else 0.0
        self.rows = self.layer.down(F.pad(self.above, (side, side))) + given
        return gate(self.rows)[:, :, 0]


def gate(maps: Float[Tensor, "N C ..."]) -> Float[Tensor, "N D ..."]:
    """tanh(a) ⊙ σ(b) of the two halves."""
    a, b = maps.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()
