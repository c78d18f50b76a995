"""`python -m streamcluster`, and the `streamcluster` command."""

import gc


def main() -> None:
    """Run the command line.

    The garbage collector waits until a job starts (`cli.run_job`): what is imported until then stays anyway, and
    walking it again and again took an eighth of the start.
    """
    gc.disable()
    from streamcluster.cli import app

    app()


if __name__ == "__main__":
    main()
