"""`--on ray`: the plain command's table, whatever happens to nodes, storage and the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experiment import ray_cluster
from benchmarks.experiment.hardware import Machine
from benchmarks.experiment.plan import Options, plan_panel
from benchmarks.experiment.progress import Epoch
from benchmarks.experiment.ray_cluster import Cluster, Node, Tasks
from benchmarks.experiment.view import View
from benchmarks.run import main

ROOT = Path(__file__).resolve().parent.parent
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
SUITE = """
import os
import time

from baselines import ConvBaseline
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST

class Mine(ConvBaseline):
    def loss(self, past, future):
        time.sleep(float(os.environ.get("SECONDS_PER_STEP", "0")))
        return super().loss(past, future)

class Bad(ConvBaseline):
    def loss(self, past, future):
        if len(past) == 4:
            raise RuntimeError("no luck")
        return super().loss(past, future)

SMALL = dict(spatial_hidden=4, temporal_hidden=8, spatial_depth=2, temporal_depth=2)
SUITE = Suite(
    name="mine",
    title="Mine",
    panels=(Panel(MovingMNIST),),
    rows=(Row("Mine", Mine, SMALL), Row("Bad", Bad, SMALL)),
    training={"smoke": Training(epochs=3, sequences=80, batch_size=4, val_sequences=4,
                                test_sequences=4, precision="fp32")},
)
"""


@pytest.fixture
def command(tmp_path, clips_file, monkeypatch, request):
    """The arguments of a command on a suite of the user's own; OUT and more come at the end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of processes that it starts
    monkeypatch.chdir(tmp_path)
    name = "ray_" + re.sub(r"\W", "_", request.node.name)  # a module of this name, once
    (tmp_path / f"{name}.py").write_text(SUITE)
    how = ("--checkpoint-seconds", "0", "--device", "cpu", "--no-figures")
    return ["--suite", f"{name}.py", "--data", clips_file.name, *how, "--out"]


def scores(out):
    """What each run has scored, bit-exact."""
    found = {}
    for path in sorted((Path(out) / "runs").glob("*/scores.npz")):
        with np.load(path) as arrays:
            found[path.parent.name] = {name: arrays[name].tobytes() for name in arrays.files}
    return found


def at_first_epoch(monkeypatch, act):
    """Act once, when a run tells of its first epoch."""
    receive, acted = View.receive, []

    def receive_and_act(self, name, message):
        receive(self, name, message)
        if isinstance(message, Epoch) and not acted:
            acted.append(name)
            act()

    monkeypatch.setattr(View, "receive", receive_and_act)
    return acted


@needs_ray
@pytest.mark.cluster
def test_the_table_is_that_of_the_plain_command_also_where_nodes_do_not_see_its_folder(
    command, monkeypatch, capsys
):
    assert main([*command, "plain"]) == 1
    plain = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    monkeypatch.setattr(Tasks, "__enter__", lambda tasks: tasks._marker.unlink() or tasks)
    assert main([*command, "out", "--on", "ray"]) == 1, "one row has failed"
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("| ")] == plain
    assert "Bad on own data, seed 0: failed: RuntimeError: no luck" in err
    assert "Ray: 1 node with 1 CPU core; 1 CPU core for a run, so 1 at a time" in err
    assert "seed 0: starts (2 of 2) on " in err and "Mine: epoch 3 " in err
    assert scores("out") == scores("plain") != {}
    names = {
        where: {path.name for path in Path(where).rglob("*") if path.is_file()}
        for where in ("out", "plain")
    }
    assert names["out"] == names["plain"], "no marker, no checkpoint of the failed row"


@needs_ray
@pytest.mark.cluster
def test_a_run_whose_node_dies_goes_on_elsewhere_to_the_same_numbers(command, monkeypatch, capsys):
    from ray.cluster_utils import Cluster as Nodes

    rows = ("--rows", "Mine")
    assert main([*command, "plain", *rows]) == 0
    monkeypatch.setenv("SECONDS_PER_STEP", "0.1")
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        dying = nodes.add_node(num_cpus=1)

        def replace_node():
            nodes.add_node(num_cpus=1)
            nodes.remove_node(dying, allow_graceful=False)

        acted = at_first_epoch(monkeypatch, replace_node)
        capsys.readouterr()
        assert main([*command, "out", *rows, "--on", f"ray://{nodes.address}"]) == 0
    finally:
        nodes.shutdown()
    err = capsys.readouterr().err
    assert acted and err.count(": starts (1 of 1) on ") == 2, err
    assert "Mine: continued at step " in err
    assert scores("out") == scores("plain") != {}


@needs_ray
@pytest.mark.cluster
def test_the_same_command_continues_after_a_signal_and_after_a_kill(command, monkeypatch, capsys):
    rows = ("--rows", "Mine")
    assert main([*command, "plain", *rows]) == 0
    monkeypatch.setenv("SECONDS_PER_STEP", "0.1")
    whole = [*command, "out", *rows, "--on", "ray"]
    with monkeypatch.context() as patched:
        acted = at_first_epoch(patched, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(whole) == 143
    err = capsys.readouterr().err
    assert acted and "checkpoint written" in err
    assert err.endswith("stopped by SIGTERM; the same command continues\n")
    (checkpoint,) = Path("out").rglob("checkpoint.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", *whole],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "continued at step" in line:
            process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert checkpoint.exists()
    assert main(whole) == 0
    assert scores("out") == scores("plain") != {}


@needs_ray
@pytest.mark.cluster
def test_a_node_with_another_version_of_the_package_is_named(command, monkeypatch, capsys):
    monkeypatch.setattr(ray_cluster, "_source_digest", lambda: "0.0.1-other")
    assert main([*command, "out", "--on", "ray"]) == 2
    err = capsys.readouterr().err
    assert "of the Ray cluster has another version of the package" in err
    assert err.rstrip().endswith(
        "expected 0.0.1-other, which the command has: install the same there"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--on", "dask"), "--on is 'dask'; expected ray, or ray://HOST:PORT"),
        (("--on", "ray://"), "expected ray, or ray://HOST:PORT"),
        pytest.param(
            *(("--on", "ray://127.0.0.1:1"), "no Ray cluster at 127.0.0.1:1: "), marks=needs_ray
        ),
        (("--on", "ray", "--jobs", "2"), "--jobs has no effect on --on ray"),
        (("--on", "ray", "--shard", "1/2"), "--shard has no effect on --on ray"),
        (("--on", "ray", "--dry-run"), "--dry-run has no effect on --on ray"),
        (("--on", "ray", "--gpus-per-run", "2"), "--gpus-per-run is 2; expected more than 0"),
        (("--on", "ray", "--suite", "efficiency"), "needs a machine to itself; leave --on ray out"),
        (("--on", "ray", "--suite", "datasets"), "which trains nothing"),
        (("--cpus-per-run", "2"), "--cpus-per-run has no effect on a command without --on"),
    ],
)
def test_what_does_not_go_with_it_is_an_error_before_anything_starts(
    command, options, said, capsys
):
    assert main([*command, "out", *options]) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_under_torchrun_it_is_refused(command, monkeypatch, capsys):
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert main([*command, "out", "--on", "ray"]) == 2
    assert "--on does not work under torchrun" in capsys.readouterr().err


def test_without_ray_the_error_tells_how_to_install_it(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*command, "out", "--on", "ray"]) == 2
    assert 'pip install "ray>=2.49,<3"' in capsys.readouterr().err


def cluster(monkeypatch, *nodes, **options):
    """A cluster of nodes that nobody started."""
    monkeypatch.setattr(ray_cluster, "_look_at_all", lambda ray: list(nodes))
    return Cluster(None, Options("mine", **options))


def node(cpus, gpus=0.0, **machine):
    devices = frozenset({"cpu", "cuda"} if gpus else {"cpu"})
    return Node("10.0.0.1", cpus, gpus, Machine(devices, machine.get("bf16", devices), bool(gpus)))


def test_a_run_that_fits_no_node_is_refused(monkeypatch, suite, dataset, tmp_path):
    runs = plan_panel(suite, "smoke", dataset, "cpu")
    large = cluster(monkeypatch, node(2), node(4), cpus_per_run=8)
    with pytest.raises(
        ValueError, match=r"a run declares 8 CPU cores, which no node .* 2 CPU cores;"
    ):
        large.engine(runs, tmp_path, View())
    with pytest.raises(ValueError, match=r"--gpus-per-run 0\.5, but the runs train on cpu"):
        cluster(monkeypatch, node(2), gpus_per_run=0.5).engine(runs, tmp_path, View())
    with pytest.raises(ValueError, match="no node of the Ray cluster lends a GPU"):
        cluster(monkeypatch, node(2), device="cuda")
    with pytest.raises(ValueError, match="no node of the Ray cluster lends a CPU core"):
        cluster(monkeypatch, node(0))


@pytest.mark.parametrize(
    ("nodes", "scale", "device", "options", "needed", "size"),
    [
        ((node(2), node(4)), "smoke", "cpu", {}, (1, 0), 6),
        ((node(2), node(4)), "standard", "cpu", {}, (2, 0), 3),
        ((node(2), node(0)), "standard", "cpu", {"cpus_per_run": 1}, (1, 0), 2),
        ((node(64), node(16, 4.0), node(8, 1.0)), "standard", "cuda", {}, (4, 1), 5),
        ((node(16, 4.0),), "smoke", "cuda", {"gpus_per_run": 0.5}, (2, 0.5), 8),
        ((node(64), node(16, 4.0)), "smoke", "cpu", {"device": "cpu"}, (1, 0), 80),
    ],
)
def test_what_a_run_gets_by_default(
    monkeypatch, suite, dataset, nodes, scale, device, options, needed, size
):
    of = cluster(monkeypatch, *nodes, **options)
    assert of.machine.devices == ({"cuda", "cpu"} if device == "cuda" else {"cpu"})
    run = replace(plan_panel(suite, "smoke", dataset, "cpu")[0], device=device, scale=scale)
    assert of._needed(run) == needed
    assert sum(of._needed(run).fit_on(each) for each in of.nodes) == size


def test_precision_is_one_that_all_nodes_compute_natively(monkeypatch):
    of = cluster(monkeypatch, node(2), node(2, bf16=frozenset()))
    assert of.machine == Machine(frozenset({"cpu"}), frozenset(), False)
