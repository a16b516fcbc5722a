"""`python -m ovmer` is the command `ovmer`."""

from ovmer.runners.commands import main

if __name__ == "__main__":
    main()
