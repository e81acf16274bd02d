"""`python -m devkit`."""

from devkit.cli import main
from devkit.dashboards.cli import dashboards
from devkit.demo.cli import demo

main.add_command(dashboards)
main.add_command(demo)
main()
