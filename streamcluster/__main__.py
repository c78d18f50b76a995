"""`python -m streamcluster`, and the `streamcluster` command."""

from streamcluster.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
