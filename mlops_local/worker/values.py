"""The worker's door to kept values; they live with the pipeline engine so that `mlops.load` reads them too."""

from mlops_local.engines.pipeline.values import load, save

__all__ = ["load", "save"]
