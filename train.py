"""`python train.py …` in a clone of the repository is `python -m vae.train …`."""

from vae.train import main

if __name__ == "__main__":
    main()
