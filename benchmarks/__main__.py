"""Entry of `python -m benchmarks`."""

import argparse

from benchmarks.lungs import lungs
from benchmarks.startup import startup


def main() -> None:
    """Run one benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    command = commands.add_parser("startup", help="from the start of the program to the page and to the first answer")
    command.add_argument("--repeats", type=int, default=5)
    command.set_defaults(run=lambda options: startup(options.repeats))
    command = commands.add_parser("lungs", help="to find the lungs of one radiograph")
    command.add_argument("--repeats", type=int, default=200)
    command.set_defaults(run=lambda options: lungs(options.repeats))
    options = parser.parse_args()
    options.run(options)


main()
