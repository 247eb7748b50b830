"""A small causal transformer over the places in raster order."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae.causal.causal import Causal, Draw
from vae.checks import ConfigError, check_int
from vae.progress import through


class Transformer(Causal):
    """Blocks of causal attention and a two-layer network, each on normalised inputs and added (Radford et al.
    2019).

    Every place sees all places before it. Cost and memory grow with the square of their number (Vaswani et al.
    2017).

    Args:
        inputs, outputs, height, width, condition: see `Causal`.
        channels: width of the blocks, a multiple of `heads`.
        layers: blocks.
        heads: of the attention.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        height: int,
        width: int,
        condition: int = 0,
        channels: int = 64,
        layers: int = 4,
        heads: int = 4,
    ):
        super().__init__(inputs, outputs, height, width, condition)
        if check_int("channels", channels) % check_int("heads", heads):
            raise ConfigError(f"channels={channels}: must be a multiple of heads={heads}")
        self.start = nn.Parameter(torch.zeros(channels))
        self.enter = nn.Linear(inputs, channels)
        self.given = nn.Linear(condition, channels) if condition else None
        self.position = nn.Parameter(0.02 * torch.randn(height * width, channels))
        self.blocks = nn.ModuleList(
            Block(channels, heads) for _ in range(check_int("layers", layers, maximum=1000))
        )
        self.head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, outputs))

    def forward(
        self, values: Float[Tensor, "N C H W"], condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N O H W"]:
        """Return all outputs in one pass."""
        entered = self.enter(values.flatten(2).mT)  # (N, L, E)
        start = self.start.expand(len(values), 1, -1)
        h = torch.cat((start, entered[:, :-1]), 1) + self._known(condition)
        for block in self.blocks:
            h = block(h)
        return self.head(h).mT.unflatten(2, (self.height, self.width))

    @torch.no_grad()
    def generate(
        self, draw: Draw, n: int, condition: Float[Tensor, "N M H W"] | None = None
    ) -> Float[Tensor, "N C H W"]:
        """n maps of values, drawn place by place; keys and values of earlier places are kept."""
        count = self.height * self.width
        drawn = self.position.new_zeros(n, self.inputs, count)
        known = self._known(condition).expand(n, -1, -1)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        kept: list[tuple[Tensor, Tensor] | None] = [None] * len(blocks)
        h = self.start.expand(n, 1, -1)
        for i in through(range(count), "drawing place by place", count):
            h = h + known[:, i : i + 1]
            for layer, block in enumerate(blocks):
                h, kept[layer] = block.next(h, kept[layer])
            drawn[..., i] = draw(self.head(h)[:, 0])
            h = self.enter(drawn[..., i])[:, None]
        return drawn.unflatten(2, (self.height, self.width))

    def _known(self, condition: Tensor | None) -> Float[Tensor, "... L E"]:
        """Return what each place has besides the values."""
        return self.position if self.given is None else self.position + self.given(condition.flatten(2).mT)  # type: ignore[union-attr]


class Block(nn.Module):
    """h + attention(norm(h)), then h + MLP(norm(h)).

    Args:
        channels: of h.
        heads: of the attention.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query_key_value, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, h: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        query, key, value = self._split(h)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._join(h, attended)

    def next(
        self, h: Float[Tensor, "N 1 E"], kept: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "N 1 E"], tuple[Tensor, Tensor]]:
        """Return the next place alone, given the keys and values of those before; the same with its own."""
        query, key, value = self._split(h)
        if kept is not None:
            key, value = torch.cat((kept[0], key), 2), torch.cat((kept[1], value), 2)
        return self._join(h, F.scaled_dot_product_attention(query, key, value)), (key, value)

    def _split(self, h: Tensor) -> tuple[Tensor, ...]:
        parts = self.query_key_value(self.norm_attention(h)).chunk(3, dim=-1)
        return tuple(
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts
        )  # (N, heads, L, E/heads)

    def _join(self, h: Tensor, attended: Tensor) -> Tensor:
        h = h + self.out(attended.transpose(1, 2).flatten(2))
        return h + self.mlp(self.norm_mlp(h))
