"""One, two or three images for validation and test are enough."""

from pathlib import Path

import pytest
from PIL import Image

from commands import call_command, metrics_of


@pytest.mark.parametrize(("latents", "count"), [(2, 1), (2, 2), (2, 3), (20, 1), (20, 2), (20, 3)])
def test_a_run_with_few_images_ends(count: int, latents: int, tmp_path: Path) -> None:
    for split, images in (("train", 20), ("val", count), ("test", count)):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(images):
            image = Image.new("L", (8, 8), 10 * number)
            image.putpixel((number % 8, number // 8), 255)
            image.save(tmp_path / "images" / split / f"{number}.png")
    run = tmp_path / "run"
    ended = call_command(
        "vae.train",
        "data=image_folder",
        f"data.path={tmp_path}/images",
        "data.size=8",
        "data.channels=1",
        "data.batch_size=4",
        f"paths.cache={tmp_path}/cache",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "network=mlp",
        "network.hidden_sizes=[8]",
        f"latent_size={latents}",
        "logger=csv",
        "callback.watch.every_n_epochs=1",
        "callback.watch.nll_k=2",
        "callback.pictures.every_n_epochs=1",
        "metric=full",
        "metric.test.nll.k=2",
        "likelihood.sigma=0.1",
        "~metric.test.generation",
        f"hydra.run.dir={run}",
        folder=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    # Of one image no spread is known; after ten steps on a few, 20 latents may well be asleep.
    assert count > 1 or "collapse" not in ended.stderr
    assert metrics_of(run)["test/nll"] is not None
    assert (run / "run.html").exists()
    ended = call_command("vae.sample", f"run={run}", "picture=all", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (run / "samples" / "neighbors.png").exists()
