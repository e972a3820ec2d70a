"""The command line of the training package: `python -m training COMMAND`."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from pneumo.backend import load_tensorflow
from pneumo.bundle import ABLATION, EMBEDDED
from pneumo.bundle import SYSTEMS as SYSTEMS_FILE
from pneumo.cases import CASES
from pneumo.errors import PneumoError
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, SYSTEMS
from training.errors import PublishError, RecipeError
from training.recipes import DEFAULT, RECIPES, TEACHER, recipe
from training.reports import REPORTS
from training.sources import HUB_DATASET

RUNS = Path("runs")
"""Where trainings are kept until they are bundled."""
LUNGS = RUNS / "lungs"
"""Where the lung segmenter is kept until it is bundled."""
TEACHING = RUNS / "teaching" / TEACHER / "seed-0"
"""Where `train --recipe teaching` leaves the teacher."""
REPORTED = RUNS / "systems"
"""Where `train --system` leaves the systems that have a recipe of their own."""
MANIFEST = RUNS / "data" / "dataset.json"
"""Data manifest that `data` writes and the others read."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status, 0 for success, 1 for bad input, 130 for an interruption."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (PneumoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if options.run is _lungs:
            print("Interrupted. The same command begins anew.", file=sys.stderr)
            return 130
        print("Interrupted. The same command goes on: a training from its last finished epoch.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    # An option cut short, such as --seed for --seeds, is no option: trainings cost too much to be started by mistake.
    add = partial(subparsers.add_parser, allow_abbrev=False)

    data = add("data", help="check the images, split them by patient, draw them")
    source = data.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "location", nargs="?", help="folder of {train,val,test}/{NORMAL,PNEUMONIA}, or Kaggle's archive.zip"
    )
    source.add_argument(
        "--from-hub",
        nargs="?",
        const=HUB_DATASET,
        metavar="OWNER/NAME[@REVISION]",
        help=f"a data set on the Hugging Face Hub (default {HUB_DATASET})",
    )
    data.add_argument("--seed", type=int, default=0, help="seed of the choice of validation patients (default 0)")
    data.add_argument(
        "--sizes", type=Path, metavar="CSV", help="table of the sizes that files had before they were stored as squares"
    )
    data.add_argument("--out", type=Path, default=RUNS / "data", help="folder for manifest and figures")
    data.set_defaults(run=_data)

    lungs = add("lungs", help="train the lung segmenter on masks that people drew")
    lungs.add_argument("--masks", type=Path, required=True, help="folder of {train,test}/{NORMAL,PNEUMONIA}/*.png")
    lungs.add_argument("--data", type=Path, default=MANIFEST, help="manifest of the data")
    lungs.add_argument("--out", type=Path, default=LUNGS, help=f"folder of the segmenter (default {LUNGS})")
    lungs.set_defaults(run=_lungs)

    train = add("train", help="train networks, or go on with an interrupted training")
    train.add_argument(
        *("--system", "--network"),
        nargs="+",
        choices=SYSTEMS,
        metavar="NAME",
        default=list(ARCHITECTURES),
        help="networks of `python -m training systems` (default: the three that ship)",
    )
    train.add_argument("--recipe", choices=RECIPES, metavar="NAME", help=f"default: the system's own, else {DEFAULT}")
    train.add_argument("--weights", type=Path, metavar="FILE", help="weights of a pretrained base, instead of Keras's")
    train.add_argument("--seeds", nargs="+", type=int, default=[0], help="one training of each network a seed")
    train.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="replace fields of the recipe"
    )
    train.add_argument("--teacher", type=Path, default=TEACHING, help=f"the teacher's run (default {TEACHING})")
    train.add_argument(
        "--before", type=Path, help="runs that a recipe goes on from which comes after another (default runs/OTHER)"
    )
    train.add_argument("--out", type=Path, help="folder of the runs (default runs/RECIPE, or runs/systems)")
    train.set_defaults(run=_train)

    systems = add("systems", help="list the systems that can be trained, with their parameters")
    systems.add_argument(
        "--trainable", action="store_true", help="only the names of those with a recipe of their own and no download"
    )
    systems.set_defaults(run=_systems)

    ablation = add("ablation", help="decide on held-out images which recipe is the default")
    ablation.add_argument("--out", type=Path, default=RUNS / "ablation", help="folder of the runs")
    ablation.add_argument(
        "--distilled", action="store_true", help="train a teacher too, and measure distillation from it"
    )
    ablation.set_defaults(run=_ablation)

    bundle = add("bundle", help="calibrate, choose operating points on held-out images, and bundle")
    bundle.add_argument("--runs", type=Path, default=RUNS / DEFAULT, help="folder with runs of each network")
    bundle.add_argument(
        "--system", nargs="+", choices=SYSTEMS, metavar="NAME", default=list(ARCHITECTURES), help="networks to bundle"
    )
    bundle.set_defaults(run=_bundle)

    calibrate = add("calibrate", help="choose calibration and operating points of a bundle anew, without training")
    calibrate.set_defaults(run=_calibrate)

    gate = add("gate", help="fit and measure what tells chest radiographs from other pictures")
    gate.add_argument("--originals", type=Path, help="test images as they were published, before they were resized")
    gate.set_defaults(run=_gate)

    evaluate = add("evaluate", help="open the test split once: metrics, predictions, figures")
    evaluate.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help=f"runs of all seeds, and their histories (default {RUNS / DEFAULT}, if there is one)",
    )
    evaluate.add_argument("--beside", type=Path, metavar="DIR", help="another bundle, to be reported beside this one")
    evaluate.add_argument("--masks", type=Path, help="lung masks that people drew, for the test images")
    evaluate.add_argument("--originals", type=Path, help="test images as they were published, before they were resized")
    evaluate.add_argument(
        "--systems",
        type=Path,
        nargs="?",
        const=REPORTED,
        metavar="DIR",
        help=f"measure the trained systems of a folder instead, beside an evaluated bundle (default {REPORTED})",
    )
    evaluate.set_defaults(run=_evaluate)

    cases = add("cases", help="write the case library of the teaching room from an evaluated bundle")
    cases.add_argument("--masks", type=Path, help="lung masks that people drew, for the test images")
    cases.set_defaults(run=_cases)

    for command in (train, ablation, bundle, calibrate, gate, evaluate, cases):
        command.add_argument("--data", type=Path, default=MANIFEST, help="manifest of the data")
    for command in (train, ablation, bundle):
        command.add_argument("--lungs", type=Path, default=LUNGS, help=f"folder of the segmenter (default {LUNGS})")
    for command in (ablation, bundle, calibrate, gate, evaluate, cases):
        command.add_argument("--models", type=Path, default=EMBEDDED, help="folder of the bundle (default models/)")

    make_card = add("card", help="write model_card.md from the bundle")
    make_card.add_argument("--models", type=Path, default=EMBEDDED, help="folder of the bundle (default models/)")
    make_card.add_argument("--out", type=Path, default=EMBEDDED.parent / "model_card.md", help="file to write")
    make_card.set_defaults(run=_card)

    showcase = add("showcase", help="write the captions of the page's examples, and the answer in README.md")
    showcase.add_argument("--models", type=Path, default=EMBEDDED, help="folder of the bundle (default models/)")
    showcase.add_argument(
        "--readme", type=Path, default=EMBEDDED.parent / "README.md", help="file with a block of json"
    )
    showcase.set_defaults(run=_showcase)

    publish = add("publish", help="upload networks, card and Space to the Hugging Face Hub")
    publish.add_argument("--repo", metavar="OWNER/NAME", help="repository of the networks")
    publish.add_argument("--space", metavar="OWNER/NAME", help="Space of the app")
    publish.add_argument(
        *("--system", "--network"),
        dest="network",
        nargs="+",
        choices=SYSTEMS,
        metavar="NAME",
        help="networks to publish (default: all of the bundle)",
    )
    publish.add_argument("--models", type=Path, default=EMBEDDED, help="folder of the bundle (default models/)")
    publish.add_argument("--private", action="store_true", help="make a repository that is created private")
    publish.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")
    publish.add_argument("--stage", type=Path, metavar="DIR", help="lay the files out in DIR instead of uploading them")
    publish.set_defaults(run=_publish)

    compare = add("compare", help="write the tables of README.md, and table and figures of all systems")
    compare.add_argument("--models", type=Path, default=EMBEDDED, help="folder of the bundle (default models/)")
    compare.add_argument(
        "--readme", type=Path, default=EMBEDDED.parent / "README.md", help="file with the marked tables"
    )
    compare.set_defaults(run=_compare)
    return parser


def _data(options: argparse.Namespace) -> None:
    from training import figures
    from training.dataset import SPLITS, build_dataset, read_sizes
    from training.matching import sizes_differ, told_by_size
    from training.sources import open_source

    source = open_source(f"hub:{options.from_hub}" if options.from_hub else options.location)
    sizes = read_sizes(options.sizes) if options.sizes else None
    dataset = build_dataset(source, options.seed, sizes=sizes)
    dataset.save(options.out / "dataset.json")
    for item in dataset.left_out:
        print(f"left out: {item.file}: {item.reason}")
    for note in dataset.notes:
        print(f"note: {note}")
    print(f"\n{'split':<12}{'patients':>9}" + "".join(f"{label:>11}" for label in CLASS_NAMES))
    for split in SPLITS:
        patients = len({image.patient for image in dataset.split(split)})
        print(f"{split:<12}{patients:>9}" + "".join(f"{n:>11}" for n in dataset.counts()[split].values()))
    print(f"\n{len(dataset.images)} images used, {len(dataset.left_out)} left out; fingerprint {dataset.fingerprint}")
    if sizes_differ(dataset.images):
        told = told_by_size(dataset)
        print(f"The size of the original alone tells the held-out classes apart with ROC AUC {told:.3f}.")
    figures.class_distribution(dataset, options.out / "class_distribution.png")
    figures.samples(dataset, source, options.out / "samples.png")
    print(f"Wrote dataset.json, class_distribution.png and samples.png to {options.out}.")


def _lungs(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.segment import SegmenterRecipe, train_segmenter

    train_segmenter(options.data, options.masks, options.out, SegmenterRecipe(), Console(stderr=True))
    print(f"Wrote the segmenter to {options.out}.")


def _train(options: argparse.Namespace) -> None:
    fields = dict(_override(item) for item in options.set)
    if "seed" in fields:
        raise RecipeError("Seeds are named by --seeds; received seed among the fields of --set. Move it there.")
    names = {system: options.recipe or (system if system in RECIPES else DEFAULT) for system in options.system}
    recipes = {
        system: [recipe(name, system, **fields, seed=seed) for seed in options.seeds] for system, name in names.items()
    }
    load_tensorflow()
    from training.runs import Study
    from training.views import uses_lungs

    lungs = any(uses_lungs(seeds[0]) for seeds in recipes.values())
    before = options.before or next((RUNS / seeds[0].after for seeds in recipes.values() if seeds[0].after), None)
    study = Study(options.data, options.lungs if lungs else None, options.teacher, options.weights, before)
    for number in range(len(options.seeds)):
        for system, name in names.items():
            seeded = recipes[system][number]
            folder = options.out or (REPORTED if name in SYSTEMS else RUNS / name)
            target = folder / system / f"seed-{seeded.seed}"
            study.run(system, name, seeded, target, Console(stderr=True))
            print(f"{system}: trained; weights and history are in {target}.")


def _systems(options: argparse.Namespace) -> None:
    from training.systems import needs_download, systems_table

    if options.trainable:
        print(*(name for name in REPORTS if not needs_download(name)))
    else:
        print(systems_table())


def _ablation(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.ablation import run_ablation
    from training.bundling import write_json
    from training.compare import ablation_table
    from training.dataset import open_dataset

    results = run_ablation(options.data, options.lungs, options.out, Console(stderr=True), options.distilled)
    write_json(options.models / ABLATION, results)
    print(ablation_table(results, open_dataset(options.data)[0].counts()["train"]))


def _bundle(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.bundling import make_bundle

    make_bundle(options.runs, options.data, options.lungs, options.models, options.system)
    print(f"Wrote the networks and manifest.json to {options.models}.")


def _calibrate(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.bundling import recalibrate

    recalibrate(options.models, options.data)
    print(
        f"Wrote manifest.json to {options.models}. Measure it anew: `python -m training evaluate`, `python -m training "
        "cases` and `python -m benchmarks saliency`."
    )


def _gate(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.gate import make_gate
    from training.gate_report import measure_gate
    from training.gate_table import gate_table

    make_gate(options.data, options.models, console=Console(stderr=True))
    print(gate_table(measure_gate(options.data, options.models, options.originals)))
    print(f"Wrote gate.npz and gate.json to {options.models}.")


def _evaluate(options: argparse.Namespace) -> None:
    load_tensorflow()
    if options.systems:
        from training.comparison import compare_systems
        from training.systems import results_table

        print(results_table(compare_systems(options.models, options.data, options.systems)))
        return
    from training.compare import tables
    from training.draw import draw
    from training.evaluate import evaluate

    runs = options.runs or (RUNS / DEFAULT if (RUNS / DEFAULT).exists() else None)
    evaluation = evaluate(options.models, options.data, runs, options.beside, options.masks, options.originals)
    draw(runs, options.data, options.models, evaluation)
    print(tables(options.models)["test"])
    print(f"Wrote metrics.json, predictions.csv and figures to {options.models}.")


def _cases(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.cases import make_cases

    index = make_cases(options.models, options.data, options.masks)
    for stop in index["tour"]:
        print(f"{stop['title']}: {stop['case']}")
    print(f"Wrote {len(index['cases'])} cases to {options.models / CASES}.")


def _compare(options: argparse.Namespace) -> None:
    from training.compare import insert_tables, read_json, tables

    if results := read_json(options.models / SYSTEMS_FILE):
        from training.draw import draw_systems

        draw_systems(results, options.models)
    content = tables(options.models)
    print("\n\n".join(content.values()))
    insert_tables(options.readme, content)


def _card(options: argparse.Namespace) -> None:
    from training.card import card

    figures = os.path.relpath(options.models / "figures", options.out.parent)
    options.out.write_text(card(options.models, figures=figures), encoding="utf-8")
    print(f"Wrote {options.out}.")


def _showcase(options: argparse.Namespace) -> None:
    load_tensorflow()
    from training.showcase import show_bundle

    show_bundle(options.models, options.readme)
    print(f"Wrote the captions of the examples, and the answer in {options.readme}.")


def _publish(options: argparse.Namespace) -> None:
    from training.card import REPOSITORY
    from training.publish import plan_networks, plan_space, publish

    plans = []
    if options.repo:
        plans.append(plan_networks(options.models, options.repo, options.network))
    if options.space:
        plans.append(plan_space(options.space, options.repo or REPOSITORY))
    if not plans:
        raise PublishError("Something must be named to publish; received neither --repo nor --space. Add OWNER/NAME.")
    for plan in plans:
        if options.dry_run or options.stage:
            print(f"{plan.kind} {plan.repository}: {len(plan.files)} files")
            for name, content in sorted(plan.files.items()):
                print(f"{len(content):>12,}  {name}")
        if options.stage:
            folder = options.stage if len(plans) == 1 else options.stage / plan.kind
            plan.write(folder)
            print(f"Laid out in {folder}; nothing was uploaded.")
        elif not options.dry_run:
            print(f"{plan.kind} {plan.repository} is at commit {publish(plan, options.private)}.")


def _override(item: str) -> tuple[str, object]:
    name, _, text = item.partition("=")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return name, text
