"""`logger=mlflow`: one MLflow run for each run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from vae.checks import ConfigError
from vae.logger.run_logger import RunLogger
from vae.progress import task

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ID = "vae.id"
"""The tag by which a run is found again."""


class MLflowRun(MLFlowLogger, RunLogger):
    """Lightning's MLFlowLogger, which after a resume goes on with the same run: the one that has this id as a tag.

    Args:
        experiment_name: the experiment, which is made where there is none.
        run_name: what the run is called.
        id: tells it from all others.
        tracking_uri: a server, or a database such as sqlite:///mlflow.db.
        tags: further ones.

    Raises:
        ConfigError: mlflow is not installed.
    """

    def __init__(
        self, experiment_name: str, run_name: str, id: str, tracking_uri: str, tags: dict[str, str] | None = None
    ):
        # Runs are nobody else's business: MLflow (3) tells its makers how it is used, unless it is told not to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # What it does to a database is nobody's business either.
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self.id, self.uri = id, tracking_uri
        try:
            super().__init__(experiment_name, run_name, tracking_uri, {**(tags or {}), ID: id})
        except ModuleNotFoundError as error:
            raise ConfigError("logger=mlflow: is not installed; pip install -e '.[mlflow]'") from error

    @property
    @rank_zero_experiment
    def experiment(self) -> "MlflowClient":
        """The client; the run begins, or is found, when it is first asked for.

        Raises:
            ConfigError: the server or database cannot be used.
        """
        if self._initialized:
            return super().experiment
        from mlflow.exceptions import MlflowException

        try:
            with task(f"waiting for MLflow at {self.uri}"):
                self._run_id = self._found()
                return super().experiment
        except MlflowException as error:
            why = " ".join(str(error).split())[:200]
            raise ConfigError(f"logger.mlflow.tracking_uri={self.uri}: cannot be used ({why})") from error

    def _found(self) -> str | None:
        """Return the run that has the id, running again; None if there is none."""
        from mlflow.exceptions import MlflowException

        client = self._mlflow_client
        there = client.get_experiment_by_name(self._experiment_name)
        if there is None:
            # Lightning would warn that it makes one.
            try:
                client.create_experiment(self._experiment_name)
            except MlflowException:
                if client.get_experiment_by_name(self._experiment_name) is None:
                    raise  # and another job has not made it meanwhile
            return None
        runs = client.search_runs([there.experiment_id], f"tags.`{ID}` = '{self.id}'")
        for run in runs[:1]:
            client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id
        return None

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the config. What a resumed run has changed stays as it began; see its changes.json."""
        import pandas as pd

        plain = OmegaConf.to_container(OmegaConf.create(params), resolve=True)
        known = self.experiment.get_run(self.run_id).data.params
        (flat,) = pd.json_normalize(plain).to_dict("records")
        super().log_hyperparams({str(key): value for key, value in flat.items() if key not in known})

    @rank_zero_only
    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Show a PNG as of a step."""
        from PIL import Image

        with Image.open(file) as image:
            self.experiment.log_image(self.run_id, image, key=name, step=step)

    @rank_zero_only
    def add_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Add numbers to the run."""
        self.log_metrics(dict(numbers))

    @rank_zero_only
    def finish(self) -> None:
        """End the run, if it has begun."""
        self.finalize("success")
