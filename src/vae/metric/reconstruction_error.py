"""How near the reconstruction from the posterior mean is to the image, on x in [0, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from vae.metric.evaluated_batch import EvaluatedBatch, Sizes


class ReconstructionError(Metric):
    """mse, and the means over images of psnr = −10 log₁₀ mse (dB) and, if asked for, ssim.

    SSIM has the customary 11×11 Gaussian window with σ = 1.5 (Wang et al. 2004); images under 11 pixels
    get the 7×7 uniform window of scikit-image, and those under 7 have no ssim.
    """

    full_state_update = False
    mse: Tensor
    psnr: Tensor
    ssim: Tensor
    count: Tensor

    def __init__(self, sizes: Sizes, ssim: bool = True):
        super().__init__()
        for name in ("mse", "psnr", "ssim", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.side = min(sizes.image_shape[1:])
        self.with_ssim = ssim and self.side >= 7

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        if batch.reconstruction is None:
            return
        restored = batch.reconstruction.clamp(0, 1).float()
        mse = (restored - batch.x).square().flatten(1).mean(1)
        self.mse += mse.sum(dtype=torch.float64)
        # A perfect image would have an infinite PSNR and make the mean useless: 1e-10 is 100 dB.
        self.psnr += (-10 * mse.clamp(min=1e-10).log10()).sum(dtype=torch.float64)
        if self.with_ssim:
            self.ssim += self._ssim(restored, batch.x).sum(dtype=torch.float64)
        self.count += len(batch.x)

    def compute(self) -> dict[str, Tensor]:
        """Return the means so far; nothing where reconstructions are not known."""
        if not self.count:
            return {}
        names = ("mse", "psnr", "ssim") if self.with_ssim else ("mse", "psnr")
        return {name: getattr(self, name) / self.count for name in names}

    def _ssim(self, restored: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Return the SSIM of each image: the mean of its map where the window lies within the image, as in
        scikit-image.

        (torchmetrics' own mean is over the whole map, for which it continues the images beyond their borders.)
        """
        gaussian = self.side >= 11
        window = 11 if gaussian else 7
        whole = structural_similarity_index_measure(
            restored,
            x,
            gaussian_kernel=gaussian,
            kernel_size=window,
            reduction="none",
            data_range=1.0,
            return_full_image=True,
        )
        inner = slice(window // 2, -(window // 2))
        return whole[1][..., inner, inner].flatten(1).mean(1)
