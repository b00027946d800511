"""On PYTHONPATH, sklearn is not installed: as after a plain `pip install`, and without the second importing it takes."""

raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
