"""`python -m i2idist.cli`: the `i2idist` command where it isn't on the path."""

from i2idist.cli import main

main()
