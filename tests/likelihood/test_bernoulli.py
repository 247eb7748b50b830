"""The Bernoulli likelihood is a probability over binary images."""

from itertools import product

import scipy.stats
import torch

from vae.likelihood.bernoulli import Bernoulli

SHAPE = (1, 2, 2)


def test_probabilities_of_all_images_sum_to_one(float64: None) -> None:
    images = torch.tensor(list(product((0.0, 1.0), repeat=4))).reshape(-1, *SHAPE)
    log_px = Bernoulli(SHAPE)(torch.randn(1, 1, *SHAPE)).log_prob(images)
    torch.testing.assert_close(log_px.logsumexp(-1), torch.zeros(1), atol=1e-6, rtol=0)


def test_log_probability_equals_scipy() -> None:
    logits, x = torch.randn(3, 5, *SHAPE), torch.randint(0, 2, (5, *SHAPE)).float()
    theirs = scipy.stats.bernoulli(logits.sigmoid().numpy()).logpmf(x.numpy()).sum((-3, -2, -1))
    torch.testing.assert_close(
        Bernoulli(SHAPE)(logits).log_prob(x), torch.from_numpy(theirs).float(), rtol=1e-4, atol=1e-5
    )


def test_decoder_starts_at_the_mean_image() -> None:
    mean = torch.tensor([[[0.0, 0.2], [0.9, 1.0]]])
    likelihood = Bernoulli(SHAPE)
    started = likelihood(likelihood.params_from_mean(mean)).mean
    torch.testing.assert_close(started, mean.clamp(1e-3, 1 - 1e-3))
