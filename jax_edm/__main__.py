import sys

from jax_edm._cli.main import main

if __name__ == "__main__":
  sys.exit(main())
