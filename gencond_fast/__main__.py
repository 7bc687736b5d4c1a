"""`python -m gencond_fast`."""

from gencond_fast.cli.main import main

if __name__ == "__main__":
    main()
