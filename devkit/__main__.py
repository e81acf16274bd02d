"""`python -m devkit`."""

from devkit.cli import main
from devkit.demo.cli import demo

main.add_command(demo)
main()
