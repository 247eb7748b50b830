"""`prior=autoregressive`: p(c) by the chain rule, one choice after the other."""

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from vae.bound.codes import Codes
from vae.causal.causal import Causal
from vae.causal.pixelcnn import PixelCNN
from vae.causal.transformer import Transformer
from vae.checks import ConfigError, check_choice, check_int
from vae.prior.by_class import ByClass, OfOneClass, check_condition
from vae.prior.prior import Prior


class Autoregressive(Prior):
    """p(c) = Π_i p(c_i | c_1, …, c_{i−1}), in raster order, by a causal network over the codes.

    The prior of van den Oord et al. 2017, section 3.3, trained with the rest on −log p(c). Of a deterministic
    code this sends no gradient to the encoder, so that the codes are those that reconstruct best, whatever their
    prior.

    With `condition=label` the network is also given the class of the image, as one-hot maps (van den Oord et al.
    2016, Conditional image generation with PixelCNN decoders, equation 4), and p(c) is a mixture over the classes,
    see `vae.prior.by_class`.

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
        network: `pixelcnn` or `transformer`.
        channels: its width.
        layers: its depth.
        kernel: of the PixelCNN, odd.
        heads: of the transformer's attention.
        condition: None, or `label`.
        classes: of the images, None where they have no labels.
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
        condition: str | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        self.classes = check_condition(condition, classes)
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
        more = {"condition": self.classes, "channels": self.channels, "layers": self.layers}
        if self.classes:
            self.class_logits = nn.Parameter(torch.zeros(self.classes))
        try:
            self.network: Causal = (
                PixelCNN(*sizes, kernel=self.kernel, **more)
                if self.kind == "pixelcnn"
                else Transformer(*sizes, heads=self.heads, **more)
            )
        except ConfigError as error:
            raise ConfigError(f"prior.{error}") from error

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Distribution:
        """p(c), of event shape (n,). `encode` (x → q(z|x)) is not used by this prior."""
        return self._mixture() if self.classes else Chain(self.embed, self.network)

    def of_labels(self, labels: Int64[Tensor, " B"]) -> OfOneClass:
        """p(c, y), of batch shape (B,)."""
        return OfOneClass(self._mixture(), labels)

    def _mixture(self) -> ByClass:
        return ByClass(self.class_logits, self._of, self.network.height * self.network.width)

    def _of(self, labels: Int64[Tensor, " B"]) -> "Chain":
        return Chain(self.embed, self.network, F.one_hot(labels, self.classes))


class Chain(Distribution):
    """The distribution of codes one after the other, of event shape (n,).

    Args:
        embed: code → what the network is given.
        network: the codes before → the logits of each.
        given: what it is conditioned on, for a distribution of batch shape (B,); None for of batch shape ().
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, embed: nn.Embedding, network: Causal, given: Shaped[Tensor, "B Y"] | None = None):
        self.embed, self.network, self.given = embed, network, given
        size = Size((network.height * network.width,))
        super().__init__(Size(() if given is None else given.shape[:1]), size, validate_args=False)

    def log_prob(self, value: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N"]:
        """Return log p(c) in nats, in one pass."""
        codes = value.reshape(-1, value.shape[-1])
        maps = self.embed(codes).mT.unflatten(2, (self.network.height, self.network.width))
        log_p = self.network(maps, self._condition(len(codes))).flatten(2).log_softmax(1)  # (N, K, n)
        chosen = log_p.gather(1, codes.unsqueeze(1)).squeeze(1)
        return chosen.sum(-1).reshape(value.shape[:-1])

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
        """Draws of c."""
        shape = self._extended_shape(Size(sample_shape))
        n = shape[:-1].numel()
        drawn: list[Tensor] = []

        def draw(logits: Tensor) -> Tensor:
            drawn.append(Categorical(logits=logits, validate_args=False).sample())
            return self.embed(drawn[-1])

        with torch.no_grad():
            self.network.generate(draw, n, self._condition(n))
        return torch.stack(drawn, 1).reshape(shape)

    def _condition(self, n: int) -> Float[Tensor, "N Y H W"] | None:
        """Return the same for each place, as maps of n values."""
        if self.given is None:
            return None
        given = self.given.to(self.embed.weight).repeat(n // len(self.given), 1)
        return given[..., None, None].expand(-1, -1, self.network.height, self.network.width)
