"""`python -m xalign_dist` is `xalign`."""

from xalign_dist.cli import main

main()
