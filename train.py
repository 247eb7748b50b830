"""`python train.py …` in a clone of the repository is `python -m vae.train …`."""

from vae.command.interruption import interrupted_in_one_line

if __name__ == "__main__":
    # First of all: a scheduler's signal may come while the libraries are imported.
    with interrupted_in_one_line():
        from vae.train import main

        main()
