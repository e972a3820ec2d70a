"""Networks and Space, published by the real client to a Hub on loopback."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import DATA, ROOT
from huggingface_hub import HfApi
from loopback_hub import (
    LFS_WARNING,
    LoopbackHub,
    card_errors,
    client_environment,
    plain_client,
    redirect_client,
    skip_waits,
)

from pneumo.bundle import ABLATION, EMBEDDED, load_bundle
from pneumo.errors import BundleError, PneumoError, UnknownNameError
from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from training.card import EVAL_RESULTS, REPOSITORY
from training.cli import main
from training.errors import PublishError
from training.publish import Plan, plan_networks, plan_space, publish

pytestmark = pytest.mark.filterwarnings(LFS_WARNING)
REPO = "tester/pneumo"
SPACE = "tester/pneumo-app"
NETWORKS = ("cnn", "cnn_lstm", "cnn_rnn")
PIXEL = DATA / "full_resolution" / "IM-0081-0001.jpeg"
README = """---
title: pneumo
sdk: gradio
app_file: app.py
colorFrom: blue
---
![The page](docs/page.png) and [the tests](tests/test_hub.py)
"""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LoopbackHub]:
    """An empty Hub that the client takes for the real one, and a token that may write to it."""
    tokens = {"hf_write": ("tester", True), "hf_read": ("reader", False)}
    with plain_client(monkeypatch, tmp_path / "home"), LoopbackHub(tokens) as hub:
        redirect_client(monkeypatch, hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_write")
        yield hub


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Pauses that the client skipped."""
    return skip_waits(monkeypatch)


@pytest.fixture
def models(bundle_folder, tmp_path) -> Path:
    """A bundle of the tiny networks to alter, with figures."""
    folder = tmp_path / "models"
    shutil.copytree(bundle_folder, folder)
    (folder / "figures").mkdir(exist_ok=True)
    for name in ("roc", "confusion", "curves"):
        (folder / "figures" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0" + name.encode())
    return folder


@pytest.fixture
def checkout(models, tmp_path) -> Path:
    """All files that Git knows or would take, with the tiny networks in models/, and what must never be published."""
    root = tmp_path / "checkout"
    for name in git_files():
        if (ROOT / name).is_file() and not name.startswith(("models/", "docs/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(models, root / "models")
    for name in ("docs/page.png", "docs/other.png", "runs/run.json", ".venv/lib.py", "pneumo/__pycache__/cli.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0")
    (root / "README.md").write_text(README)
    (root / "model_card.md").write_text("# A card\n")
    return root


def git_files() -> list[str]:
    """The files of the checkout that are tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a Git checkout")
    return listed.stdout.split()


def run(capsys, *arguments: str | Path) -> tuple[int, str, str]:
    """Run `python -m training publish` in this process: exit status, output, errors."""
    status = main(["publish", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refusal(capsys, *arguments: str | Path) -> str:
    """The message of a command that fails: one line, and exit status 1."""
    status, _, errors = run(capsys, *arguments)
    # The client's progress bars come before.
    errors = errors[errors.find("error: ") :]
    assert status == 1
    assert re.fullmatch(r"error: .* must .*\.\n", errors), errors
    assert "Traceback" not in errors
    assert "Request ID" not in errors
    return errors


def own(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what the Hub itself puts into a repository."""
    return {name: data for name, data in files.items() if name != ".gitattributes"}


# --- networks ---------------------------------------------------------------------------------------------------


def test_everything_of_the_networks_in_one_commit(hub, models, capsys):
    status, output, _ = run(capsys, "--repo", REPO, "--models", models)
    files = own(hub.files(REPO, "model"))
    assert (status, output) == (0, f"model {REPO} is at commit {hub.sha(REPO, 'model')}.\n")
    assert set(files) == {
        *("cnn.keras", "cnn_lstm.keras", "cnn_rnn.keras", "segmenter.keras"),
        *("manifest.json", "metrics.json", "predictions.csv", "segmenter.json", "cases.zip"),
        *("figures/confusion.png", "figures/curves.png", "figures/roc.png"),
        *("README.md", "LICENSE", EVAL_RESULTS),
    }
    for path in sorted(models.rglob("*")):
        if path.is_file():
            assert files[path.relative_to(models).as_posix()] == path.read_bytes()
    assert [path for method, path in hub.uploads if method == "POST"] == [f"/api/models/{REPO}/commit/main"]
    assert len(hub.repos["model", REPO].history) == 2, "what the Hub begins with, and one commit"
    assert not hub.repos["model", REPO].private


def test_ablation_is_published_where_there_is_one(models):
    assert ABLATION not in plan_networks(models, REPO).files
    (models / ABLATION).write_text("{}\n")
    assert plan_networks(models, REPO).files[ABLATION] == b"{}\n"


def test_published_bundle_finds_lungs(hub, models):
    publish(plan_networks(models, REPO))
    radiograph = read_radiograph(PIXEL)
    found, local = (load_bundle(place).prepare(radiograph).lungs for place in (f"hf://{REPO}@main", models))
    assert found.found
    assert (found.mask == local.mask).all()


def test_card_shows_no_file_that_is_not_there(hub, models):
    files = plan_networks(models, REPO).files
    shown = re.findall(r"\]\(([^)#:]+)\)", files["README.md"].decode())
    assert len(shown) == 3
    assert set(shown) <= set(files)
    (models / "figures" / "roc.png").unlink()
    files = plan_networks(models, REPO).files
    assert set(re.findall(r"\]\(([^)#:]+)\)", files["README.md"].decode())) == set(shown) - {"figures/roc.png"}


def test_nothing_new_uploads_nothing(hub, models, capsys):
    _, first, _ = run(capsys, "--repo", REPO, "--models", models)
    hub.requests.clear()
    assert run(capsys, "--repo", REPO, "--models", models)[:2] == (0, first)
    assert hub.uploads == []
    assert len(hub.repos["model", REPO].history) == 2


def test_one_changed_file_is_uploaded_alone(hub, models):
    publish(plan_networks(models, REPO))
    before = own(hub.files(REPO, "model"))
    (models / "figures" / "roc.png").write_bytes(b"\x89PNG\r\n\x1a\n\0new")
    hub.requests.clear()
    publish(plan_networks(models, REPO))
    assert [method for method, _ in hub.uploads] == ["PUT", "POST"]
    after = own(hub.files(REPO, "model"))
    assert {name for name in after if after[name] != before[name]} == {"figures/roc.png"}


@pytest.mark.parametrize("networks", [["cnn"], ["cnn_rnn", "cnn_lstm"]])
def test_some_networks(hub, models, capsys, networks):
    assert run(capsys, "--repo", REPO, "--models", models, "--network", *networks)[0] == 0
    files = own(hub.files(REPO, "model"))
    weights = {f"{name}.keras" for name in (*networks, "segmenter")}
    assert {name for name in files if name.endswith(".keras")} == weights
    manifest = json.loads(files["manifest.json"])
    whole = json.loads((models / "manifest.json").read_text())
    assert manifest == {
        **whole,
        "networks": {name: whole["networks"][name] for name in NETWORKS if name in networks},
        "together": None,
    }
    card = files["README.md"].decode() + files[EVAL_RESULTS].decode()
    titles = {"cnn": "CNN", "cnn_lstm": "CNN-LSTM", "cnn_rnn": "CNN-RNN"}
    for name, title in titles.items():
        assert bool(re.search(rf"\b{title}(?!-)\b", card)) == (name in networks), title
        assert (f"{name}.keras" in card) == (name in networks)
    assert "mean of the networks" not in card

    bundle = load_bundle(f"hf://{REPO}@main")
    assert (sorted(bundle.networks), bundle.consensus) == (sorted(networks), None)
    examination = Examiner(bundle).examine(read_radiograph(PIXEL))
    assert (examination.together, examination.precedents) == (None, None)
    record = examination.record()
    whole = Examiner(load_bundle(models)).examine(read_radiograph(PIXEL)).record()
    assert record["together"] is None
    assert record["networks"] == {name: whole["networks"][name] for name in networks}


def test_private(hub, models, capsys):
    run(capsys, "--repo", REPO, "--models", models, "--private")
    assert hub.repos["model", REPO].private
    assert own(hub.files(REPO, "model"))


def test_networks_and_space_at_once(hub, models, checkout, monkeypatch, capsys):
    monkeypatch.setattr("training.publish.plan_space.__defaults__", (REPOSITORY, checkout))
    status, output, _ = run(capsys, "--repo", REPO, "--space", SPACE, "--models", models)
    assert status == 0
    assert output.splitlines() == [
        f"model {REPO} is at commit {hub.sha(REPO, 'model')}.",
        f"space {SPACE} is at commit {hub.sha(SPACE, 'space')}.",
    ]
    assert hub.repos["space", SPACE].sdk == "gradio"
    assert own(hub.files(SPACE, "space")) == plan_space(SPACE, REPO, checkout).files
    hub.requests.clear()
    assert run(capsys, "--repo", REPO, "--space", SPACE, "--models", models)[1] == output
    assert hub.uploads == []


# --- what is not ready to be published --------------------------------------------------------------------------


def test_bundle_that_is_not_evaluated(models):
    manifest = json.loads((models / "manifest.json").read_text())
    del manifest["networks"]["cnn_lstm"]["test"]
    (models / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        PublishError, match=r"must be evaluated before it is published; cnn_lstm of .*training evaluate"
    ):
        plan_networks(models, REPO)
    assert plan_networks(models, REPO, ["cnn"]).files


def test_bundle_of_a_release_that_measured_less(models):
    manifest = json.loads((models / "manifest.json").read_text())
    del manifest["networks"]["cnn"]["test"]["ece"]
    (models / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PublishError, match=r"cnn of .* has no ece\."):
        plan_networks(models, REPO)


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "cnn.keras", "segmenter.keras", "manifest.json"])
def test_missing_file(models, name):
    (models / name).unlink()
    with pytest.raises(PneumoError, match=name):
        plan_networks(models, REPO)


@pytest.mark.parametrize("name", ["cnn.keras", "segmenter.keras"])
def test_altered_weights_are_not_published(models, name):
    (models / name).write_bytes(b"altered")
    with pytest.raises(BundleError, match=f"must have the SHA-256 of its manifest, .*; {name} of "):
        plan_networks(models, REPO)


def test_altered_weights_that_are_left_out(models):
    (models / "cnn.keras").write_bytes(b"altered")
    assert plan_networks(models, REPO, ["cnn_rnn"]).files


def test_unknown_network(models):
    with pytest.raises(UnknownNameError, match=r"one of cnn, cnn_lstm, cnn_rnn; received 'vit'"):
        plan_networks(models, REPO, ["vit"])


@pytest.mark.parametrize(
    "name", ["pneumo", "tester/pneumo/x", "tester/", "/pneumo", "tester/..", "a b/c", "hf://a/b", ""]
)
def test_repository_of_another_form(hub, name):
    with pytest.raises(PublishError, match="A repository must be named OWNER/NAME"):
        Plan(name, "model", {})
    assert hub.requests == []


# --- the Space --------------------------------------------------------------------------------------------------


def test_space_holds_what_the_app_needs_and_nothing_else(checkout):
    expected = {name for name in git_files() if name.startswith("pneumo/") and (ROOT / name).is_file()}
    expected |= {"app.py", "requirements.txt", "README.md", "model_card.md", "LICENSE", "docs/page.png"}
    expected |= {f"models/{name}.keras" for name in (*NETWORKS, "segmenter")}
    beside = ("manifest.json", "metrics.json", "predictions.csv", "segmenter.json", "cases.zip")
    expected |= {f"models/{name}" for name in beside}
    plan = plan_space(SPACE, root=checkout)
    assert set(plan.files) == expected
    assert plan.files == {name: (checkout / name).read_bytes() for name in expected}


@pytest.mark.parametrize(
    "name",
    ["README.md", "app.py", "docs/page.png", "models/manifest.json", "models/cnn.keras", "models/segmenter.keras"],
)
def test_space_that_lacks_a_file(checkout, name):
    (checkout / name).unlink()
    with pytest.raises(PneumoError, match=" must ") as caught:
        plan_space(SPACE, root=checkout)
    assert Path(name).name in str(caught.value)


@pytest.mark.parametrize("name", ["cnn.keras", "segmenter.keras"])
def test_space_with_altered_weights(checkout, name):
    (checkout / "models" / name).write_bytes(b"altered")
    with pytest.raises(BundleError, match="must have the SHA-256 of its manifest"):
        plan_space(SPACE, root=checkout)


@pytest.mark.skipif(not (EMBEDDED / "manifest.json").exists(), reason="no bundle ships yet")
def test_space_of_this_checkout():
    plan = plan_space(SPACE)
    assert card_errors(plan.files["README.md"].decode(), "space") == []
    assert not [name for name in plan.files if name.startswith(("tests/", "training/", "runs/", "."))]


def test_staged_space_needs_nothing_outside_itself(checkout, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.publish.plan_space.__defaults__", (REPOSITORY, checkout))
    stage = tmp_path / "stage"
    status, output, _ = run(capsys, "--space", SPACE, "--stage", stage)
    assert status == 0
    assert output.endswith(f"Laid out in {stage}; nothing was uploaded.\n")
    plan = plan_space(SPACE, root=checkout)
    assert {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()} == set(plan.files)

    script = (
        "import app, json, sys\n"
        "from pneumo.bundle import open_bundle, read_manifest\n"
        "from pneumo.ui.interface import build_interface\n"
        "from pneumo.ui.service import ExaminationService\n"
        "build_interface(ExaminationService())\n"
        "files = {name: getattr(module, '__file__', None) for name, module in sys.modules.items()}\n"
        "print(json.dumps([open_bundle().location, list(read_manifest(open_bundle())['networks']), files]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PNEUMO_MODELS")}
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, cwd=stage, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    location, networks, modules = json.loads(finished.stdout)
    assert (Path(location), tuple(networks)) == (stage / "models", NETWORKS)
    paths = {name: Path(path) for name, path in modules.items() if path}
    assert "pneumo.ui.interface" in paths
    for name, path in paths.items():
        assert path.is_relative_to(stage) == (name.split(".")[0] in ("app", "pneumo")), name
        assert path.is_relative_to(sys.prefix) or not path.is_relative_to(ROOT), name


def test_space_installs_every_package_that_it_imports(checkout):
    files = plan_space(SPACE, root=checkout).files
    imported = set()
    for name, content in files.items():
        for node in ast.walk(ast.parse(content)) if name.endswith(".py") else ():
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    distributions = packages_distributions()
    # `score` reads and writes Parquet, on a cluster if asked, which the page does not: extras, whose lack it tells.
    external = imported - sys.stdlib_module_names - {"pneumo", "pyarrow", "ray"}
    needed = {canonical(distributions[name][0]) for name in external}
    pins = {canonical(line.split("==")[0]) for line in files["requirements.txt"].decode().split() if "==" in line}
    assert len(needed) > 5
    assert needed <= pins


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- nothing is uploaded ----------------------------------------------------------------------------------------


def test_dry_run_lists_and_asks_nobody(hub, models, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    status, output, _ = run(capsys, "--repo", REPO, "--models", models, "--dry-run")
    plan = plan_networks(models, REPO)
    lines = [f"{len(content):>12,}  {name}" for name, content in sorted(plan.files.items())]
    assert (status, output.splitlines()) == (0, [f"model {REPO}: {len(plan.files)} files", *lines])
    assert hub.requests == []


def test_stage_of_both(models, checkout, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.publish.plan_space.__defaults__", (REPOSITORY, checkout))
    run(capsys, "--repo", REPO, "--space", SPACE, "--models", models, "--stage", tmp_path / "stage")
    assert (tmp_path / "stage/model/cnn.keras").read_bytes() == (models / "cnn.keras").read_bytes()
    assert (tmp_path / "stage/space/app.py").exists()


def test_stage_where_nothing_can_be_written(models, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refusal(capsys, "--repo", REPO, "--models", models, "--stage", tmp_path / "file")
    assert "a folder that can be written to" in message


def test_nothing_named(capsys):
    assert "neither --repo nor --space" in refusal(capsys)


def test_name_that_is_none(models, capsys):
    assert "must be named OWNER/NAME; received 'pneumo'" in refusal(capsys, "--repo", "pneumo", "--models", models)


# --- tokens and faults ------------------------------------------------------------------------------------------


def test_no_token(hub, models, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    message = refusal(capsys, "--repo", REPO, "--models", models)
    assert "A token of the Hugging Face Hub must be set" in message
    assert "HF_TOKEN" in message
    assert hub.repos == {}


def test_unknown_token(hub, models, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    message = refusal(capsys, "--repo", REPO, "--models", models)
    assert "does not know it" in message
    assert "hf_unknown" not in message
    assert hub.repos == {}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("kind", ["model", "space"])
def test_token_without_rights(hub, models, checkout, capsys, monkeypatch, existing, kind):
    monkeypatch.setattr("training.publish.plan_space.__defaults__", (REPOSITORY, checkout))
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    if existing:
        hub.put(REPO, kind, {"old.txt": b"1"})
    option = "--repo" if kind == "model" else "--space"
    message = refusal(capsys, option, REPO, "--models", models)
    assert f"The token must be allowed to write to {kind} {REPO}" in message
    assert hub.uploads == []


def test_hub_is_down(hub, models, capsys, waits):
    hub.stop()
    assert "The Hub must be reachable" in refusal(capsys, "--repo", REPO, "--models", models)


FAULTS = {
    "503 on whoami": dict(kind="503", path_contains="whoami"),
    "503 on create": dict(kind="503", path_contains="/repos/create"),
    "503 on the card": dict(kind="503", path_contains="validate-yaml"),
    "503 on preupload": dict(kind="503", path_contains="/preupload/", times=20),
    "503 on the commit": dict(kind="503", path_contains="/commit/"),
    "500 on the content": dict(kind="500", method="PUT", times=60),
    "damaged content": dict(kind="corrupt", method="PUT", times=60),
    "damaged whoami": dict(kind="corrupt", path_contains="whoami"),
    "cut content": dict(kind="cut", method="PUT", times=60),
    "reset commit": dict(kind="reset", path_contains="/commit/"),
    "402 on create": dict(kind="402", path_contains="/repos/create"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_then_the_same_command_again(hub, models, capsys, waits, fault):
    hub.faults.add(**FAULTS[fault])
    message = refusal(capsys, "--repo", REPO, "--models", models)
    assert REPO in message
    hub.faults.pending.clear()
    hub.requests.clear()
    assert run(capsys, "--repo", REPO, "--models", models)[0] == 0
    if fault == "503 on the commit":
        assert [method for method, _ in hub.uploads] == ["POST"], "the content had arrived"
    if fault == "reset commit":
        assert hub.uploads == [], "the commit had been made"
    assert own(hub.files(REPO, "model")) == plan_networks(models, REPO).files
    assert len(hub.repos["model", REPO].history) == 2


def test_card_that_the_hub_refuses(hub, models, capsys, monkeypatch):
    monkeypatch.setattr("training.card.HUB_DATASET", "no data set")
    message = refusal(capsys, "--repo", REPO, "--models", models)
    assert 'Invalid metadata in README.md. - "datasets" with value "no data set" is not valid' in message
    assert hub.uploads == []


def test_in_a_process_of_its_own(hub, models, tmp_path):
    """As a person calls it: nothing but the environment says where the Hub is."""
    environment = {**os.environ, **client_environment(hub.url, tmp_path / "home"), "HF_TOKEN": "hf_write"}
    command = [sys.executable, "-m", "training", "publish", "--repo", REPO, "--models", str(models)]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.stdout == f"model {REPO} is at commit {hub.sha(REPO, 'model')}.\n", finished.stderr
    assert HfApi().model_info(REPO).sha == hub.sha(REPO, "model")
    environment["HF_TOKEN"] = "hf_read"
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("error: The token must be allowed to write to model tester/pneumo")
    assert finished.stderr.count("\n") == 1
