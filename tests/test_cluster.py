"""Scoring on a cluster of which a machine is lost: the same rows as on one machine."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from pneumo import score as scoring
from pneumo.cli import main
from pneumo.framing import RASTER
from pneumo.score import score
from pneumo.supply import open_supply

ray = pytest.importorskip("ray", reason="ray is not installed")

SMALL = """
import sys
from pneumo import cli, score
score.PART, score.BATCH = 8, 4
sys.exit(cli.main(sys.argv[1:]))
"""
TIMES = 6


@pytest.fixture(scope="module")
def source(images, tmp_path_factory) -> Path:
    """Fifteen radiographs and one file that is none, six times over."""
    folder = tmp_path_factory.mktemp("many")
    names = []
    for label in ("NORMAL", "PNEUMONIA"):
        for path in sorted((images / "test" / label).iterdir()):
            shutil.copy(path, folder / path.name)
            names.append(path.name)
    (folder / "cut.jpeg").write_bytes((folder / names[0]).read_bytes()[:500])
    pq.write_table(pa.table({"path": [*names, "cut.jpeg"] * TIMES}), folder / "many.parquet", row_group_size=50)
    return folder / "many.parquet"


@pytest.fixture
def cluster():
    """Two machines of one core each, both processes of this one."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()


def test_equal_to_one_machine_though_another_is_lost(source, cluster, examiner, tmp_path):
    out, log = tmp_path / "cluster.parquet", tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SMALL, "score", source, "--out", out, "--engine", "ray"],
            cwd=ROOT,
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=output,
            stderr=output,
        )
        try:
            while len(list(out.with_name(f"{out.name}.parts").glob("*.parquet"))) < 4:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            (other,) = (node for node in cluster.list_all_nodes() if node is not cluster.head_node)
            cluster.remove_node(other, allow_graceful=False)
            assert not out.exists()
            assert process.wait(timeout=300) == 0, log.read_text()
        finally:
            process.kill()
    assert f"{16 * TIMES} rows, {TIMES} of them refused" in log.read_text()
    score(source, tmp_path / "local.parquet", lambda: examiner)
    found, expected = pq.read_table(out), pq.read_table(tmp_path / "local.parquet")
    assert found.schema.equals(expected.schema)
    for name in expected.column_names:
        values, wanted = found[name].to_pylist(), expected[name].to_pylist()
        if pa.types.is_floating(expected.schema.field(name).type):
            # Of two pixels beside each other that are equally hot, rounding chooses.
            slack = 1.01 / RASTER if name.endswith(("peak_x", "peak_y")) else 1e-4
            np.testing.assert_allclose(np.array(values, float), np.array(wanted, float), atol=slack, err_msg=name)
        else:
            assert values == wanted, name


@pytest.mark.parametrize("span", [(0, 96), (0, 7), (49, 51), (50, 60), (91, 96), (60, 61)])
def test_part_of_a_source_is_what_it_is_in_the_whole(source, span):
    for place in (source, source.parent):
        supply = open_supply(place)
        start, stop = (min(end, len(supply)) for end in span)
        assert [item.name for item in supply.between(start, stop)] == [item.name for item in supply][start:stop]


def test_cluster_that_is_not_there(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    monkeypatch.setattr(scoring, "PART", 8)
    assert main(["score", str(source), "--out", str(tmp_path / "r.parquet"), "--engine", "ray", "--models", "cnn"]) == 1
    assert "RAY_ADDRESS must name a cluster" in capsys.readouterr().err


def test_without_ray_it_is_said(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["score", str(source), "--out", str(tmp_path / "r.parquet"), "--engine", "ray", "--models", "cnn"]) == 1
    assert "needs the package ray" in capsys.readouterr().err
