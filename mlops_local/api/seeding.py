"""One seed for every random generator a script has loaded."""

from __future__ import annotations

import os
import random
import sys

from mlops_local.api.declare import seed as running_seed
from mlops_local.api.run import log_params


def seed_everything(seed: int | None = None) -> int:
    """Seed Python's, numpy's and torch's generators, as far as they are loaded, and record it as the run's parameter `seed`.

    Call it after the imports. A library that is imported later, or that has a generator of its own (`numpy.random.default_rng`,
    scikit-learn's `random_state`), takes the returned number.

    Args:
        seed: 0 … 2³² - 1; the step's own in a pipeline, else 0.

    Returns:
        The seed.
    """
    chosen = running_seed() if seed is None else int(seed)
    random.seed(chosen)
    os.environ["PYTHONHASHSEED"] = str(chosen % 2**32)  # for processes started from here on; this one's was drawn when it began
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(chosen % 2**32)
    if torch is not None:
        torch.manual_seed(chosen)  # the GPUs' too
    log_params(seed=chosen)
    return chosen
