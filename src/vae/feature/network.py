"""The networks whose features are used to compare images, and where they come from."""

from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import ConfigError, is_import_path

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
FILE_PREFIX = "features_"
FEATURES = 64


class MissingFeaturesError(ConfigError):
    """The error for a feature network that does not exist. The message says how to get it."""


class Classifier(nn.Module):
    """A small convolutional classifier. Images are compared by its 64 features before the last layer.

    Args:
        image_shape: (C, H, W).
        classes: the number of labels that it distinguishes.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = image_shape
        self.image_shape, self.classes = image_shape, classes
        halved = ((height + 1) // 2 + 1) // 2 * (((width + 1) // 2 + 1) // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * halved, FEATURES),
            nn.ReLU(),
        )
        self.output = nn.Linear(FEATURES, classes)

    @property
    def features(self) -> int:
        """The number of features."""
        return FEATURES

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Return the features of images."""
        return self.layers(x)

    def logits(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Return the unnormalised log-probabilities of the labels."""
        return self.output(self(x))


class Inception(nn.Module):
    """Inception v3 as FID uses it, through torchmetrics: 2,048 features of the last pooling layer.

    Args:
        weights: torch-fidelity's file of weights.

    Raises:
        MissingFeaturesError: torch-fidelity is not installed.
        ConfigError: the file holds something else than weights.
    """

    features = 2048

    def __init__(self, weights: Path):
        super().__init__()
        from torchmetrics.image.fid import NoTrainInceptionV3

        _check_weights(weights)
        try:
            self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.features)], str(weights))
        except ModuleNotFoundError as error:
            raise MissingFeaturesError(
                "features=inception needs torch-fidelity: pip install -e '.[fid]'"
            ) from error

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Return the features of images. Grey images are taken as colour, bytes as in the original."""
        colour = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        return self.network((colour * 255).round().to(torch.uint8))


def _check_weights(path: Path) -> None:
    """Refuse a file that holds more than tensors, because torch-fidelity would unpickle anything."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged bytes can raise any type
        raise ConfigError(f"features=inception: {path} is no file of weights, or a damaged one") from error


class OwnFeatures(nn.Module):
    """A user's own network, given by its import path.

    Args:
        path: `<module>:<name>`, where the name is that of a function or class that takes no arguments and returns
            a module (B, C, H, W) in [0, 1] → (B, F).
        image_shape: (C, H, W).

    Raises:
        ConfigError: the name does not exist, or its module does not return (B, F).
    """

    def __init__(self, path: str, image_shape: tuple[int, int, int]):
        super().__init__()
        module, _, name = path.partition(":")
        try:
            made = getattr(import_module(module), name)()
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(f"features={path}: {type(error).__name__}: {error}") from error
        if not isinstance(made, nn.Module):
            raise ConfigError(f"features={path}: gave {type(made).__name__}, and must give a torch.nn.Module")
        self.network = made.eval().requires_grad_(False)
        given = self.network(torch.zeros(2, *image_shape))
        if not isinstance(given, Tensor) or given.ndim != 2 or len(given) != 2:
            raise ConfigError(f"features={path}: must give features of shape (B, F) for images (B, C, H, W)")
        self.features = given.shape[1]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Return the features of images."""
        return self.network(x)


def load_features(
    features: str | None, weights: str, data_name: str, image_shape: tuple[int, int, int]
) -> tuple[nn.Module, str]:
    """Return a feature network and its name for the numbers.

    The network maps images to features and has the attribute `features`.

    Args:
        features: `inception`, the path of a file that `python -m vae.features` wrote, or `<module>:<name>` of the
            user's own network; None for the file that `python -m vae.features` writes for this data set.
        weights: the folder for weights, `paths.weights`.
        data_name: the name of the images' data set, for the default file.
        image_shape: (C, H, W).

    Raises:
        MissingFeaturesError: the network does not exist.
        ConfigError: the file is something else, or is for images of another size.
    """
    if features == "inception":
        path = Path(weights) / INCEPTION_FILE
        if not path.is_file():
            raise MissingFeaturesError(
                f"features=inception: {path} is missing; get {INCEPTION_FILE} from the releases of"
                " toshas/torch-fidelity and put it there"
            )
        return Inception(path), features
    if features and is_import_path(features):
        return OwnFeatures(features, image_shape), features.partition(":")[2]
    path = Path(features) if features else features_file(weights, data_name)
    if not path.is_file():
        raise MissingFeaturesError(
            f"no feature network at {path}: make it with `python -m vae.features data={data_name}`,"
            " from labels or attributes, or give features=inception, features=<file> or features=<module>:<name>"
        )
    network = load_classifier(path)
    if network.image_shape != image_shape:
        raise ConfigError(f"features={path}: is for images of {network.image_shape}, not {image_shape}")
    return network, path.stem.removeprefix(FILE_PREFIX)


def features_file(weights: str, data_name: str) -> Path:
    """Return the path of the file that `python -m vae.features` writes."""
    return Path(weights) / f"{FILE_PREFIX}{data_name}.pt"


def save_classifier(network: Classifier, path: Path) -> None:
    """Write the weights and the sizes that they need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"image_shape": list(network.image_shape), "classes": network.classes}
    torch.save({**sizes, "state_dict": network.state_dict()}, path)


def load_classifier(path: Path) -> Classifier:
    """Read what `save_classifier` wrote.

    Raises:
        ConfigError: the file is something else.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        channels, height, width = saved["image_shape"]
        network = Classifier((channels, height, width), saved["classes"])
        network.load_state_dict(saved["state_dict"])
    except Exception as error:  # unpickling damaged bytes can raise any type
        raise ConfigError(f"features={path}: is no file that `python -m vae.features` wrote") from error
    return network.eval().requires_grad_(False)
