"""Distances between sets of images and between pairs: against scipy and scikit-image's definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from linear_gaussian import linear_model
from metric.evaluations import evaluation
from vae.checks import ConfigError
from vae.feature.network import (
    INCEPTION_FILE,
    Classifier,
    MissingFeaturesError,
    load_features,
    save_classifier,
)
from vae.metric.evaluated_batch import Sizes
from vae.metric.feature_distance import coverage, frechet_distance, kernel_distance
from vae.metric.reconstruction_error import ReconstructionError


def test_frechet_distance_equals_scipys_square_root() -> None:
    real = torch.randn(300, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    generated = torch.randn(200, 8, dtype=torch.float64) + 0.5
    a, b = real.numpy(), generated.numpy()
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_the_unbiased_mmd() -> None:
    x, y = (torch.randn(40, 6, dtype=torch.float64) for _ in range(2))
    x = x + 0.7
    kernel = [[(a @ b.T / 6 + 1) ** 3 for b in (x, y)] for a in (x, y)]
    n = len(x)
    within = sum((k.sum() - k.diagonal().sum()) / (n * (n - 1)) for k in (kernel[0][0], kernel[1][1]))
    assert kernel_distance(x, y)[0] == pytest.approx(float(within - 2 * kernel[0][1].mean()))


def test_precision_and_recall_tell_what_is_missing() -> None:
    real = torch.cat([torch.randn(200, 3), torch.randn(200, 3) + 50])
    half = torch.randn(300, 3)  # only one of the two modes
    assert coverage(real, half, 3) > 0.8
    assert 0.35 < coverage(half, real, 3) < 0.5
    assert coverage(real, torch.randn(50, 3) + 1000, 3) == 0


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3), (8, 1)])
def test_psnr_and_ssim_equal_scikit_images(side: int, channels: int) -> None:
    x, restored = torch.rand(4, channels, side, side), torch.rand(4, channels, side, side)
    restored = 0.5 * x + 0.5 * restored
    metric = ReconstructionError(Sizes((channels, side, side), 2, discrete=False))
    model = linear_model()
    batch = evaluation(model, torch.rand(4, *model.image_shape))
    metric.update(type(batch)(**{**vars(batch), "x": x, "reconstruction": restored}))
    values = metric.compute()
    pairs = [(a.double().numpy(), b.double().numpy()) for a, b in zip(x, restored, strict=True)]
    psnr = np.mean([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs])
    # Below 11 pixels scikit-image's own window is meant, with the population's covariance as torchmetrics has it.
    gaussian = {"gaussian_weights": True, "sigma": 1.5} if side >= 11 else {"win_size": 7}
    ssim = np.mean(
        [
            structural_similarity(a, b, data_range=1, channel_axis=0, use_sample_covariance=False, **gaussian)
            for a, b in pairs
        ]
    )
    assert values["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert values["ssim"] == pytest.approx(ssim, abs=1e-4)


def test_a_saved_classifier_is_found_by_the_name_of_the_data(tmp_path: Path) -> None:
    network = Classifier((1, 8, 8), 10)
    save_classifier(network, tmp_path / "features_digits.pt")
    loaded, name = load_features(None, str(tmp_path), "digits", (1, 8, 8))
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(loaded(x), network(x))
    assert name == "digits"


def test_missing_or_unfit_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFeaturesError, match=r"python -m vae\.features data=mnist"):
        load_features(None, str(tmp_path), "mnist", (1, 28, 28))
    with pytest.raises(MissingFeaturesError, match="torch-fidelity"):
        load_features("inception", str(tmp_path), "mnist", (1, 28, 28))
    save_classifier(Classifier((1, 8, 8), 10), tmp_path / "features_digits.pt")
    with pytest.raises(ConfigError, match=r"\(1, 8, 8\), not \(1, 28, 28\)"):
        load_features(str(tmp_path / "features_digits.pt"), "", "mnist", (1, 28, 28))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ConfigError, match=r"python -m vae\.features"):
        load_features(str(tmp_path / "text.pt"), "", "mnist", (1, 28, 28))


def test_features_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_features.py").write_text(
        "import torch\n"
        "def pooled():\n    return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())\n"
        "def unflat():\n    return torch.nn.AvgPool2d(4)\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network, name = load_features("own_features:pooled", "", "digits", (1, 8, 8))
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(network(x), torch.nn.functional.avg_pool2d(x, 4).flatten(1))
    assert (name, network.features) == ("pooled", 4)
    for path, line in (
        ("own_features:unflat", r"must give features of shape \(B, F\)"),
        ("own_features:number", "gave int, and must give a torch.nn.Module"),
        ("own_features:missing", "features=own_features:missing: AttributeError"),
        ("no_such_module:net", "features=no_such_module:net: ModuleNotFoundError"),
    ):
        with pytest.raises(ConfigError, match=line):
            load_features(path, "", "digits", (1, 8, 8))


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of torch-fidelity's name and layout, with random weights."""
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="the extra `fid`")
    with monkeypatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        network = theirs.FeatureExtractorInceptionV3("any", ["2048"])
    path = tmp_path / INCEPTION_FILE
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_inception_takes_grey_and_colour_and_gives_what_torch_fidelity_gives(inception_weights: Path) -> None:
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network, name = load_features("inception", str(inception_weights.parent), "mnist", (1, 28, 28))
    original = theirs.FeatureExtractorInceptionV3("any", ["2048"], str(inception_weights))
    pixels = torch.randint(0, 256, (3, 1, 299, 299), dtype=torch.uint8)
    expected = original(pixels.expand(-1, 3, -1, -1))[0]
    assert name == "inception"
    torch.testing.assert_close(network(pixels / 255), expected, rtol=1e-3, atol=1e-4)
    assert network(torch.rand(2, 3, 28, 28)).shape == (2, network.features)


def test_inception_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / INCEPTION_FILE).write_text("no weights")
    with pytest.raises(ConfigError, match="is no file of weights"):
        load_features("inception", str(tmp_path), "mnist", (1, 28, 28))
