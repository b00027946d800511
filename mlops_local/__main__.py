"""`python -m mlops_local` is the same as `mlops`."""

from mlops_local.cli.main import main

if __name__ == "__main__":
    main()
