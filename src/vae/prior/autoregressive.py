"""`prior=autoregressive`: p(c) by the chain rule, one choice after the other."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from vae.bound.codes import Codes
from vae.causal.causal import Causal
from vae.causal.pixelcnn import PixelCNN
from vae.causal.transformer import Transformer
from vae.checks import ConfigError, check_choice, check_int
from vae.prior.prior import Prior


class Autoregressive(Prior):
    """p(c) = Π_i p(c_i | c_1, …, c_{i−1}), in raster order, by a causal network over the codes.

    The prior of van den Oord et al. 2017, section 3.3, trained with the rest on −log p(c). Of a deterministic
    code this sends no gradient to the encoder, so that the codes are those that reconstruct best, whatever their
    prior.

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
        network: `pixelcnn` or `transformer`.
        channels: its width.
        layers: its depth.
        kernel: of the PixelCNN, odd.
        heads: of the transformer's attention.
    """

    over_codes = True

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        network: str = "pixelcnn",
        channels: int = 32,
        layers: int = 4,
        kernel: int = 3,
        heads: int = 4,
    ):
        super().__init__()
        self.kind = check_choice("prior.network", network, ("pixelcnn", "transformer"))
        self.channels, self.layers = check_int("prior.channels", channels), check_int("prior.layers", layers)
        self.kernel = check_int("prior.kernel", kernel, minimum=3, maximum=99)
        self.heads = check_int("prior.heads", heads)

    def take_codes(self, codes: Codes) -> None:
        """Be a prior over these codes.

        Raises:
            ConfigError: an image has one code, so that there is nothing for it to depend on.
        """
        if codes.count == 1:
            raise ConfigError(
                "prior=autoregressive: an image has a single code here, for which there is prior=categorical"
            )
        self.embed = nn.Embedding(codes.classes, self.channels)
        sizes = (self.channels, codes.classes, codes.height, codes.width)
        more = {"channels": self.channels, "layers": self.layers}
        try:
            self.network: Causal = (
                PixelCNN(*sizes, kernel=self.kernel, **more)
                if self.kind == "pixelcnn"
                else Transformer(*sizes, heads=self.heads, **more)
            )
        except ConfigError as error:
            raise ConfigError(f"prior.{error}") from error

    def forward(self, encode: Callable[[Tensor], Distribution]) -> "Chain":
        """p(c), of event shape (n,). `encode` (x → q(z|x)) is not used by this prior."""
        return Chain(self.embed, self.network)


class Chain(Distribution):
    """The distribution of codes one after the other, of event shape (n,).

    Args:
        embed: code → what the network is given.
        network: the codes before → the logits of each.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, embed: nn.Embedding, network: Causal):
        self.embed, self.network = embed, network
        super().__init__(event_shape=Size((network.height * network.width,)), validate_args=False)

    def log_prob(self, value: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N"]:
        """log p(c) in nats, in one pass."""
        codes = value.reshape(-1, value.shape[-1])
        maps = self.embed(codes).mT.unflatten(2, (self.network.height, self.network.width))
        log_p = self.network(maps).flatten(2).log_softmax(1)  # (N, K, n)
        chosen = log_p.gather(1, codes.unsqueeze(1)).squeeze(1)
        return chosen.sum(-1).reshape(value.shape[:-1])

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
        """Draws of c."""
        n = Size(sample_shape).numel()
        drawn: list[Tensor] = []

        def draw(logits: Tensor) -> Tensor:
            drawn.append(Categorical(logits=logits, validate_args=False).sample())
            return self.embed(drawn[-1])

        with torch.no_grad():
            self.network.generate(draw, n)
        return torch.stack(drawn, 1).reshape(*sample_shape, -1)
