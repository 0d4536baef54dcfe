"""A plan's runs as tasks of a Ray cluster: Ray places them, retries them, and frees what they held.

A task works in the command's own folder of runs where its node sees that, so that a run which is
retried continues from its checkpoint; elsewhere in a folder of the node's, whose files the command
then puts in place.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import benchmarks
from benchmarks.experiment import code, hardware, progress
from benchmarks.experiment.engine import Died, Engine, outcome_of
from benchmarks.experiment.execute import execute, put_in_place
from benchmarks.experiment.hardware import Machine
from benchmarks.experiment.plan import Options, Run
from benchmarks.experiment.schedule import POLL_SECONDS, STOP_SECONDS
from benchmarks.experiment.store import CHECKPOINT, PREVIOUS, StoredRun
from benchmarks.experiment.view import View
from benchmarks.files import PARTIAL
from benchmarks.names import printable
from benchmarks.stopping import Stopped, deferred, stoppable

HERE = "local"  # Ray's address of a cluster that it starts for this command
RETRIES = 3  # of a run whose worker or node has died
KNOCK_SECONDS = 10.0  # that an address may take to answer
LOOK_SECONDS = 180.0  # that a node may take to import the package
SOURCES = ("tau", "baselines", "benchmarks")  # that all nodes must have the same of


class Node(NamedTuple):
    """A node, what it lends, and what it found when it was looked at."""

    address: str
    cpus: int
    gpus: float
    machine: Machine


class Resources(NamedTuple):
    """What a run declares to need, all of it on one node."""

    cpus: int
    gpus: float

    def fit_on(self, node: Node) -> int:
        """How many such runs a node takes at a time."""
        fitting = node.cpus // self.cpus
        return min(fitting, int(node.gpus / self.gpus)) if self.gpus else fitting


# --- the cluster ---------------------------------------------------------------------------------


@contextmanager
def connect(options: Options) -> Iterator[Cluster]:
    """The cluster that --on names, looked at; without an address one of this machine alone.

    Raises ModuleNotFoundError without Ray, and ValueError for a cluster that cannot be reached, has
    another version of Ray or Python, or has a node without this version of the package.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'--on {options.on} needs ray: pip install "ray>=2.49,<3"'
        ) from error
    _, _, address = str(options.on).partition("://")
    how: dict[str, Any] = {"address": address or HERE, "log_to_driver": False}
    if how["address"] == HERE:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would be sent to its makers
        how |= {"num_cpus": torch.get_num_threads(), "include_dashboard": False}
    try:
        _knock(address)
        _keeping_handlers(lambda: ray.init(logging_level="ERROR", **how))
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(_unreached(address, error)) from error
    try:
        yield Cluster(ray, options)
    finally:
        with deferred():
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens there, which Ray takes minutes to find."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _keeping_handlers(call: Callable[[], object]) -> None:
    """Call something that takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    call()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _unreached(address: str, error: Exception) -> str:
    said = printable(str(error))
    if "ersion mismatch" in said:
        return (
            f"the Ray cluster at {address} has another version of Ray or Python: {said}; start "
            "both with the same"
        )
    where = f"at {address}" if address else "on this machine"
    return (
        f"no Ray cluster {where}: {said[:300]}; expected the address that `ray start` printed, "
        "such as 10.0.0.1:6379, and this command on one of the cluster's machines"
    )


class Cluster:
    """The nodes of the cluster that Ray is connected to, and what a plan's runs get of them."""

    def __init__(self, ray: ModuleType, options: Options) -> None:
        self._ray, self._options = ray, options
        nodes = [node for node in _look_at_all(ray) if node.cpus]
        lending = [node for node in nodes if node.gpus]
        gpus = [node for node in lending if "cuda" in node.machine.devices]
        if gpus and len(gpus) < len(lending) and options.device != "cpu":
            (useless, *_) = (node for node in lending if node not in gpus)
            raise ValueError(
                f"node {useless.address} of the Ray cluster lends a GPU that torch does not find "
                "there, so a run would fail on it; mend it, or take it out of the cluster"
            )
        if options.device == "cuda" and not gpus:
            raise ValueError(
                "--device cuda, but no node of the Ray cluster lends a GPU that torch finds; use "
                "--device cpu"
            )
        self._has_cuda = bool(gpus) and options.device in ("auto", "cuda")
        self.nodes = gpus if self._has_cuda else nodes
        if not self.nodes:
            raise ValueError("no node of the Ray cluster lends a CPU core; add one that does")

    @property
    def machine(self) -> Machine:
        """What every node that may train a run computes with."""
        of = [node.machine for node in self.nodes]
        devices = frozenset.intersection(*(machine.devices for machine in of))
        return Machine(
            devices if self._has_cuda else devices - {"cuda"},
            bf16=frozenset.intersection(*(machine.bf16 for machine in of)),
            tf32=all(machine.tf32 for machine in of),
        )

    def engine(self, runs: Sequence[Run], folder: Path, view: View) -> Tasks:
        """What runs a plan's runs, with their folders in `folder`.

        Raises ValueError if no node could ever take one.
        """
        needed = self._needed(runs[0])
        size = sum(needed.fit_on(node) for node in self.nodes)
        if not size:
            raise ValueError(
                f"a run declares {_in_words(*needed)}, which no node of the Ray cluster lends; it "
                f"has {_list(self.nodes)}: lower --cpus-per-run or --gpus-per-run, or add a node"
            )
        view.say(f"Ray: {_list(self.nodes)}; {_in_words(*needed)} for a run, so {size} at a time")
        return Tasks(self._ray, folder, needed, size, view)

    def _needed(self, run: Run) -> Resources:
        """What the user declares, or a default.

        That is one core for a small model on a CPU, else all of a node's; one GPU, and its share of
        the cores.
        """
        asked, smallest = self._options, min(node.cpus for node in self.nodes)
        if run.device != "cuda":
            if asked.gpus_per_run is not None:
                raise ValueError(
                    f"--gpus-per-run {asked.gpus_per_run:g}, but the runs train on {run.device}; "
                    "leave it out"
                )
            small = run.is_small and run.device == "cpu"
            return Resources(asked.cpus_per_run or (1 if small else smallest), 0)
        gpus = 1.0 if asked.gpus_per_run is None else asked.gpus_per_run
        share = min(int(node.cpus * gpus / node.gpus) for node in self.nodes)
        return Resources(asked.cpus_per_run or max(1, share), gpus)


def _in_words(cpus: int, gpus: float) -> str:
    cores = f"{cpus} CPU core{'s' * (cpus != 1)}"
    return f"{cores} and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus else cores


def _list(nodes: Sequence[Node]) -> str:
    kinds = Counter(_in_words(node.cpus, node.gpus) for node in nodes)
    return "; ".join(
        f"{number} node{'s' * (number != 1)} with {kind}" for kind, number in kinds.items()
    )


# --- nodes, before anything trains ---------------------------------------------------------------


def _look_at_all(ray: ModuleType) -> list[Node]:
    """The nodes that are alive; raises ValueError for one without this version of the package."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    looks = []
    for node in alive:
        has_gpus = node["Resources"].get("GPU", 0) > 0
        task = ray.remote(
            num_cpus=0,
            max_calls=int(has_gpus),  # the worker has seen all GPUs, so that no run may have it
            scheduling_strategy=_on(ray, node["NodeID"]),
        )(_look)
        looks.append(task.remote())
    deadline = time.monotonic() + LOOK_SECONDS
    waiting = looks
    while waiting and time.monotonic() < deadline:
        with deferred():
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
    here = _source_digest()
    found = []
    for node, look in zip(alive, looks, strict=True):
        address, has = node["NodeManagerAddress"], node["Resources"]
        if look in waiting:
            raise ValueError(
                f"node {address} of the Ray cluster has not answered in {LOOK_SECONDS:g} s; look "
                "at it, or take it out of the cluster"
            )
        try:
            with deferred():
                source, machine = ray.get(look)
        except ray.exceptions.RayError as error:
            said = printable(str(error))
            _, _, cause = said.rpartition("ModuleNotFoundError")
            raise ValueError(
                f"node {address} of the Ray cluster cannot import the package: {cause or said}; "
                "install it there, as it is here"
            ) from error
        if source != here:
            raise ValueError(_other_source(address, source, here))
        found.append(Node(address, int(has.get("CPU", 0)), has.get("GPU", 0.0), machine))
    return found


def _other_source(address: str, source: str, expected: str) -> str:
    return (
        f"node {address} of the Ray cluster has another version of the package, {source}; expected "
        f"{expected}, which the command has: install the same there"
    )


def _look() -> tuple[str, Machine]:
    """What a node has: the digest of the package's source, and what it computes with."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # which Ray empties for a task without a GPU
    return _source_digest(), hardware.this_machine()


def _source_digest() -> str:
    """Identifies the version of the package: twelve hex digits, the version's name before them."""
    root = Path(benchmarks.__file__).parents[1]
    hashed = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            if "speed" not in path.parts:  # which is not installed
                hashed.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{benchmarks.__version__}-{hashed.hexdigest()[:12]}"


def _on(ray: ModuleType, node: str) -> Any:
    """To be placed on this node, and no other."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)


# --- tasks ---------------------------------------------------------------------------------------


class BadNodeError(ValueError):
    """A node, such as one that joined later, on which no run can work."""


class _Order(NamedTuple):
    """What a task gets: a pickled call, and how to make it."""

    name: str  # the run's folder
    payload: bytes
    carried: code.Code
    threads: int
    source: str  # that the command has
    cwd: str  # of the command


class _Task(NamedTuple):
    run: Run
    began: Callable[[str], None]
    is_queued: bool = True


class _Inbox:
    """What tasks say, until the command takes it."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Any]] = []

    def put(self, name: str, message: Any) -> None:
        """Take a message on a run."""
        self._found.append((name, message))

    def take(self) -> list[tuple[str, Any]]:
        """Messages so far, once."""
        found, self._found = self._found, []
        return found


class Tasks(Engine):
    """Calls as Ray's tasks; Ray decides where and when each begins, and begins it again."""

    def __init__(
        self, ray: ModuleType, folder: Path, needed: Resources, size: int, view: View
    ) -> None:
        super().__init__(size, view)
        self._ray, self._folder, self._threads = ray, folder.absolute(), needed.cpus
        self._task = ray.remote(
            num_cpus=needed.cpus, num_gpus=needed.gpus, max_retries=RETRIES, max_calls=1
        )(_work)
        here = _on(ray, ray.get_runtime_context().get_node_id())
        inbox = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Inbox)
        self._inbox = inbox.remote()
        self._source = _source_digest()
        self._data: dict[str, Any] = {}  # by the data set's digest
        self._tasks: dict[str, _Task] = {}  # by the run's folder
        self._sent: dict[str, tuple[Run, Mapping[str, bytes]]] = {}  # not in their place yet
        self._told: set[str] = set()  # of which it was said
        self._names: dict[Any, str] = {}  # by the task's reference
        self._folder.mkdir(parents=True, exist_ok=True)
        self._marker = self._folder / f".seen-by-nodes-{secrets.token_hex(6)}"
        self._marker.touch()

    @property
    def is_idle(self) -> bool:
        """Whether no task is left."""
        return not self._names and not self._sent

    @property
    def queued(self) -> Sequence[Run]:
        """Runs whose tasks wait for a node, or for what they say to arrive."""
        return [task.run for task in self._tasks.values() if task.is_queued]

    def start(
        self,
        call: Callable[..., Any],
        run: Run,
        *args: Any,
        began: Callable[[str], None] = lambda where: None,
    ) -> None:
        """Hand a call to Ray; `execute` works where the runs' folder is seen, or is sent back."""
        if call is execute:
            call = partial(_execute, marker=self._marker)
        light = replace(run, dataset=None, reopen=None)  # type: ignore[arg-type] # sent once
        call = partial(_with_data, call, run.dataset.digest)
        order = _Order(
            run.folder,
            pickle.dumps((call, (light, *args))),
            code.belongs_to_user(run.code),
            self._threads,
            self._source,
            str(Path.cwd()),
        )
        with deferred():  # a task that runs is one that `stop` knows of
            if run.dataset.digest not in self._data:
                opener = pickle.dumps(run.reopen or partial(_same, run.dataset))
                self._data[run.dataset.digest] = self._ray.put(opener)
            reference = self._task.remote(order, self._data[run.dataset.digest], self._inbox)
            self._names[reference] = run.folder
            self._tasks[run.folder] = _Task(run, began)

    def outcomes(self) -> dict[str, Any]:
        """What tasks that have ended gave."""
        with deferred():
            if not self._names:
                time.sleep(POLL_SECONDS)
            ended, _ = self._ray.wait(list(self._names), timeout=POLL_SECONDS)
            self._show()
            found: dict[str, Any] = {}
            for reference in ended:
                run, outcome = self._end(reference)
                if isinstance(outcome, Mapping):
                    self._sent[run.folder] = (run, outcome)
                else:
                    found[run.folder] = outcome
            found |= self._put_in_place()
            for outcome in found.values():
                if isinstance(outcome, BadNodeError):  # it would take, and fail, all that wait
                    raise outcome
            return found

    def stop(self) -> None:
        """Cancel all tasks: they write their checkpoints within the grace, or are killed."""
        left = list(self._names)
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for reference in left:
                self._ray.cancel(reference)
            while left and time.monotonic() < deadline:
                with deferred():
                    _, left = self._ray.wait(left, num_returns=len(left), timeout=POLL_SECONDS)
                    self._show()
        finally:  # also when another signal comes
            with deferred():
                for reference in left:
                    self._ray.cancel(reference, force=True)
                self._names.clear()
                self._marker.unlink(missing_ok=True)

    def _end(self, reference: Any) -> tuple[Run, Any]:
        run = self._tasks.pop(self._names.pop(reference)).run
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            lines = str(error).strip().splitlines()
            return run, RuntimeError(printable(f"the task failed: {lines[-1]}"))
        except self._ray.exceptions.RayError as error:
            said = printable(f"{type(error).__name__}: {error}")[:300]
            return run, Died(0, said=f"Ray gave it up: {said}; the same command continues")
        return run, outcome

    def _put_in_place(self) -> dict[str, Any]:
        """Store what was sent back; what cannot be stored now is kept, and tried again."""
        stored: dict[str, Any] = {}
        for name, (run, content) in list(self._sent.items()):
            try:
                stored[name] = put_in_place(run, self._folder, content)
            except ValueError as error:
                stored[name] = error
            except OSError as error:
                if name not in self._told:
                    self.view.say_of(run, f"its files are kept, and wait for their place: {error}")
                    self._told.add(name)
                continue
            del self._sent[name]
        return stored

    def _show(self) -> None:
        """Show what tasks have said."""
        with suppress(self._ray.exceptions.RayError):  # as the inbox is begun anew
            for name, message in self._ray.get(self._inbox.take.remote()):
                if name not in self._tasks:
                    continue
                if isinstance(message, str):
                    self._tasks[name] = self._tasks[name]._replace(is_queued=False)
                    self._tasks[name].began(message)
                else:
                    self.view.receive(name, message)


# --- in a task -----------------------------------------------------------------------------------


def _work(order: _Order, data: bytes, inbox: Any) -> Any:
    """What a task does, in the main thread of a worker that ends with it."""
    import ray

    address = ray.util.get_node_ip_address()
    if (source := _source_digest()) != order.source:  # of a node that came later
        return BadNodeError(_other_source(address, source, order.source))

    def send(message: Any) -> None:
        with deferred():
            inbox.put.remote(order.name, message)

    with suppress(OSError):
        os.chdir(order.cwd)  # so that paths mean what they do in the command
    hardware.keep_freed_memory()
    torch.set_num_threads(order.threads)
    progress.deliver_all_to(send)
    send(f"{socket.gethostname()} ({address})")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Ray cancels by it
    try:
        with stoppable():
            return outcome_of(order.payload, order.carried, data)
    except Stopped as stopped:
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt from stopped  # which is how Ray knows of it
        os._exit(stopped.status)  # a node that goes: elsewhere the run goes on


def _with_data(call: Callable[..., Any], digest: str, run: Run, *args: Any) -> Any:
    """Call with the data set as it is opened here; the last of `args` is what opens it."""
    *rest, data = args
    where = f"on node {socket.gethostname()}"
    try:
        dataset = pickle.loads(data)()
    except (OSError, ValueError) as error:
        raise BadNodeError(f"{where}: {error}") from error
    if dataset.digest != digest:
        raise BadNodeError(
            f"{where}: {dataset.name} has other content than where the command runs; expected the "
            "same files on all nodes"
        )
    return call(replace(run, dataset=dataset), *rest)


def _same(value: Any) -> Any:
    return value


def _execute(run: Run, runs: Path, *args: Any, marker: Path) -> StoredRun | dict[str, bytes]:
    """`execute` a run in its place, or elsewhere: then its files, by their path beside `runs`."""
    if marker.exists():
        return execute(run, runs, *args)
    with tempfile.TemporaryDirectory(prefix="run-") as place:
        execute(run, Path(place) / runs.name, *args)
        return {
            str(path.relative_to(place)): path.read_bytes()
            for path in Path(place).rglob("*")
            if path.is_file() and _is_sent(path)
        }


def _is_sent(path: Path) -> bool:
    return not (
        path.name in (CHECKPOINT, PREVIOUS)
        or path.name.startswith(PARTIAL)
        or path.suffix == ".lock"
    )
