"""`python train.py …` in a clone of the repository is `python -m vae.train …`."""

from vae.command.interruption import Interrupted, signals_interrupt

if __name__ == "__main__":
    # First of all: a scheduler's signal may come while the libraries are imported.
    with signals_interrupt():
        try:
            from vae.train import main

            main()
        except Interrupted as signal:
            signal.say("nothing was saved")
            raise
