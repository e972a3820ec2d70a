"""Entry of `python -m benchmarks`."""

import argparse
from pathlib import Path

from benchmarks.certainty import STRESSED, lung_certainty
from benchmarks.fuzz import fuzz
from benchmarks.latency import latency
from benchmarks.load import load
from benchmarks.lungs import lungs
from benchmarks.mutations import mutations
from benchmarks.points import points
from benchmarks.saliency import SPLITS, saliency
from benchmarks.score import score
from benchmarks.sizes import SPLITS as SIZES_SPLITS
from benchmarks.sizes import sizes
from benchmarks.soak import soak
from benchmarks.startup import startup
from benchmarks.teaching import teaching
from pneumo.bundle import EMBEDDED
from pneumo.methods import METHODS
from pneumo.zoo import ARCHITECTURES
from training.recipes import DEFAULT


def main() -> None:
    """Run one benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    command = commands.add_parser("startup", help="from the start of the program to the page and to the first answer")
    command.add_argument("--repeats", type=int, default=5)
    command.set_defaults(run=startup)
    command = commands.add_parser("lungs", help="to find the lungs of one radiograph")
    command.add_argument("--repeats", type=int, default=200)
    command.set_defaults(run=lungs)
    command = commands.add_parser("certainty", help="how certain the lungs are, of radiographs and of other pictures")
    command.add_argument("--data", type=Path, default=Path("runs/data/dataset.json"))
    command.add_argument("--models", type=Path, default=EMBEDDED)
    command.add_argument("--stressed", type=int, default=STRESSED, help="held-out radiographs put under every stress")
    command.set_defaults(run=lung_certainty)
    command = commands.add_parser("points", help="which balanced operating point holds on other patients")
    command.add_argument("--data", type=Path, default=Path("runs/data/dataset.json"))
    command.add_argument("--models", type=Path, default=EMBEDDED)
    command.add_argument("--halves", type=int, default=100, help="how often patients are drawn")
    command.set_defaults(run=points)
    command = commands.add_parser("sizes", help="how far the networks are right by the size of the child alone")
    command.add_argument("--data", type=Path, default=Path("runs/data/dataset.json"))
    command.add_argument("--models", type=Path, default=EMBEDDED)
    command.add_argument("--split", choices=SIZES_SPLITS, default=SIZES_SPLITS[0])
    command.set_defaults(run=sizes)
    command = commands.add_parser("saliency", help="how far each saliency method can be believed")
    command.add_argument("--images", type=int, default=30, help="pneumonias of a split (default 30)")
    command.add_argument("--split", choices=SPLITS, default=SPLITS[0])
    command.add_argument("--data", type=Path, default=Path("runs/data/dataset.json"))
    command.add_argument(
        "--masks", type=Path, help="lung masks that people drew (default: as the segmenter finds them)"
    )
    command.add_argument("--runs", type=Path, default=Path("runs") / DEFAULT)
    command.add_argument("--models", type=Path, default=EMBEDDED)
    command.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    command.set_defaults(run=saliency)
    command = commands.add_parser("latency", help="one radiograph, beside what one would otherwise write")
    command.add_argument("--repeats", type=int, default=100)
    command.add_argument("--starts", type=int, default=3, help="of the page; 0 leaves it out")
    command.add_argument("--json", action="store_true", dest="as_json")
    command.set_defaults(run=latency)
    command = commands.add_parser("teaching", help="how quickly the teaching room answers in a browser")
    command.add_argument("--repeats", type=int, default=200)
    command.set_defaults(run=teaching)
    command = commands.add_parser("score", help="very many radiographs, beside a loop that one would otherwise write")
    command.add_argument("--data", type=Path, default=Path("../shared/data/chest_xray/test"), help="a folder of them")
    command.add_argument("--sizes", type=int, nargs="+", default=[1000, 20000], help="the folder is repeated")
    command.add_argument("--json", action="store_true", dest="as_json")
    command.set_defaults(run=score)
    command = commands.add_parser("load", help="many visitors at once, from this machine alone")
    command.add_argument("--visitors", type=int, default=50)
    command.add_argument("--rounds", type=int, default=3, help="of all visitors; a busy page is asked once a round")
    command.add_argument("--concurrency", type=int, nargs="+", default=[], help="default: that of the page")
    command.set_defaults(run=load)
    command = commands.add_parser("mutations", help="whether damaged files are read, or refused in words")
    command.add_argument("--files", type=int, default=10_000)
    command.add_argument("--first", type=int, default=0, help="number of the first: the same is always the same file")
    command.set_defaults(run=mutations)
    command = commands.add_parser("fuzz", help="the same, the damage guided by what code it reaches")
    command.add_argument("--seconds", type=int, default=300)
    command.set_defaults(run=fuzz)
    command = commands.add_parser("soak", help="whether the page's memory stays flat over very many examinations")
    command.add_argument("--examinations", type=int, default=2000)
    command.set_defaults(run=soak)
    command = commands.add_parser("training", help="how busy a training keeps the processor, and what SMOTE needs")
    command.add_argument("--data", type=Path, default=Path("runs/data/dataset.json"))
    command.add_argument("--lungs", type=Path, default=Path("runs/lungs"), help="folder of the segmenter")
    command.add_argument("--network", choices=ARCHITECTURES, default="cnn")
    command.add_argument("--images", type=int, default=1280)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--json", action="store_true", dest="as_json")
    command.set_defaults(run=_training)
    options = vars(parser.parse_args())
    options.pop("run")(**options)


def _training(**options) -> None:
    # Imported only now: Keras is not needed to start the page.
    from benchmarks.training import training

    training(**options)


main()
