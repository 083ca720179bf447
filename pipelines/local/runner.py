"""The caller's side of a local run: one host process, asked for one round after another."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from components.errors import UsageError
from pipelines import warm_interpreter
from pipelines.local.events import RunOutcome, StepEvent
from pipelines.local.host import Request, Settings
from pipelines.local.interpreter import search_path, write_interpreter
from pipelines.local.process_group import PATIENCE, end_group, remove_folders

WARM_MODULES = (
    "kfp.dsl.executor_main",
    "numpy",
    "safetensors.numpy",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "pydantic",
    "yaml",
    "jinja2",
    "fsspec",
    "pyarrow.parquet",
    "duckdb",
    "sqlglot.dialects.bigquery",
    "sqlglot.dialects.duckdb",
    "farmhash",
    "components.data_processing.record_ingestion.ingestion",
    "components.data_processing.record_ingestion.extraction",
    "components.data_processing.record_ingestion.row_shards",
    "components.data_processing.record_ingestion.sorted_rows",
    "components.data_processing.feature_augmentation.augmentation",
    "components.training.local_training.training",
    "components.rounds.round_opening.opening",
    "components.rounds.roster_call.calling",
    "components.rounds.round_commit.committing",
    "components.rounds.metrics_opening.opening",
    "components.encryption.key_sharing.sharing",
    "components.encryption.update_sealing.sealing",
    "components.encryption.mask_release.releasing",
    "components.encryption.mask_recovery.unmasking",
    "components.encryption.aggregate_opening.opening",
    "components.aggregation.secure_aggregation.summing",
    "components.training.adaptation.adaptation",
    "components.evaluation.model_evaluation.evaluation",
    "components.evaluation.count_commitment.counting",
    "components.evaluation.round_report.report",
    "torch",
)
"""What the steps of a round import; those that are not installed are left out."""

ENCODER_MODULES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)
"""What `augment` imports besides, where it has features to compute."""

_PACKAGES = Path(__file__).resolve().parents[2]
_HOST = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pipelines.local.host import main; main()"


def _ignore(_event: StepEvent) -> None:
    """Does nothing with an event."""


@dataclass(frozen=True, kw_only=True)
class _Host:
    """A running host process, the connection to it, and the folders that last as long as it does."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    answers: TextIO
    folders: tuple[Path, ...]

    def end(self) -> None:
        """Ends the host, its steps and the warm interpreter, and removes their folders."""
        end_group(self.process.pid)
        self.process.wait()
        self.answers.close()
        self.channel.close()
        remove_folders(self.folders)


class LocalRunner:
    """Runs compiled pipelines on this machine, one after another, with Kubeflow's local runner.

    As a context manager it starts at once to import what the first run will need. Whatever ends the process
    that holds it, a SIGKILL included, ends the steps too.
    """

    def __init__(
        self, *, home: Path, log_path: Path, warm: bool = True, modules: Sequence[str] = WARM_MODULES
    ) -> None:
        """Prepares a runner; nothing is started or written yet.

        Args:
            home: Folder of the federation's local state: CROSSCLOUD_HOME of every step. Steps' temporary
                files lie below it while they run.
            log_path: File to which all that kfp and the steps print is appended.
            warm: Whether steps may run in forks of an interpreter that has their libraries imported (Linux
                only; elsewhere they run as if it were false).
            modules: What the warm interpreter imports beforehand.
        """
        self._home = home.absolute()
        self._log_path = log_path.absolute()
        self._warm = warm and warm_interpreter.SUPPORTED
        self._modules = tuple(modules)
        self._host: _Host | None = None

    def __enter__(self) -> Self:
        """Starts the host process."""
        self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all processes."""
        self.close()

    def close(self) -> None:
        """Ends the host and all it has started; a later `run` starts afresh."""
        host, self._host = self._host, None
        if host is not None:
            host.end()

    def run(
        self,
        spec: Path,
        arguments: Mapping[str, Any],
        *,
        pipeline_root: Path,
        on_event: Callable[[StepEvent], None] = _ignore,
    ) -> RunOutcome:
        """Runs the compiled pipeline `spec` (YAML) to its end.

        Args:
            spec: The compiled pipeline.
            arguments: Its run parameters, as JSON can carry them; the others take their defaults.
            pipeline_root: A folder that is empty or does not exist yet; Kubeflow's outputs stay in it.
            on_event: Called in this thread with everything that happens, as it happens. If it raises, the run
                is ended.

        Raises:
            UsageError: If `spec` is missing or `pipeline_root` holds something.
        """
        began = time.perf_counter()
        pipeline_root = pipeline_root.absolute()
        if not spec.is_file():
            raise UsageError(f"{spec}: no such file; compile the pipeline first")
        if pipeline_root.exists() and any(pipeline_root.iterdir()):
            raise UsageError(f"{pipeline_root}: a run's outputs need an empty folder; name another")
        pipeline_root.mkdir(parents=True, exist_ok=True)
        request = Request(
            spec=str(spec.absolute()), arguments=dict(arguments), pipeline_root=str(pipeline_root)
        )
        host = self._started()
        with contextlib.ExitStack() as stack:
            # Whatever interrupts a run, nothing of it may go on in the background.
            stack.callback(self.close)
            outcome = _converse(host, request, on_event)
            if outcome is not None:
                stack.pop_all()
        if outcome is None:
            outcome = self._lost(host)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _started(self) -> _Host:
        """The host process, started if there is none."""
        if self._host is None:
            self._home.mkdir(parents=True, exist_ok=True)
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            # Not below TMPDIR or home: a socket's path may have 107 bytes.
            runtime = Path(tempfile.mkdtemp(prefix="crosscloud-", dir="/tmp"))
            scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=self._home))
            with contextlib.ExitStack() as stack:
                stack.callback(remove_folders, (runtime, scratch))
                self._host = self._start(runtime, scratch)
                stack.pop_all()
        return self._host

    def _start(self, runtime: Path, scratch: Path) -> _Host:
        server: list[str] = []
        interpreter = [sys.executable]
        if self._warm:
            server = warm_interpreter.server_command(sys.executable, runtime / "socket", self._modules)
            interpreter = warm_interpreter.shim_command(sys.executable, runtime / "socket")
        write_interpreter(runtime / "bin", interpreter)
        ours, theirs = socket.socketpair()
        settings = Settings(
            channel=theirs.fileno(),
            log=str(self._log_path),
            scratch=str(scratch),
            folders=(str(runtime), str(scratch)),
            warm_interpreter=server,
        )
        with theirs, self._log_path.open("ab") as log, _opened(scratch) as held:
            for descriptor in (log.fileno(), held):
                # The host inherits both: whoever wants these folders gone sees that it lives.
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
            process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-P", "-c", _HOST, str(_PACKAGES), json.dumps(asdict(settings))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(runtime / "bin", scratch),
                pass_fds=[theirs.fileno(), held],
                start_new_session=True,
            )
        answers = ours.makefile("r", encoding="utf-8")
        return _Host(process=process, channel=ours, answers=answers, folders=(runtime, scratch))

    def _environment(self, interpreters: Path, scratch: Path) -> dict[str, str]:
        return {
            # A folder called "components" where the command is typed must not stand in for ours.
            "PYTHONSAFEPATH": "1",
            **os.environ,
            "CROSSCLOUD_HOME": str(self._home),
            "PATH": search_path(interpreters, Path(sys.executable), os.environ.get("PATH", "")),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(scratch),
        }

    def _lost(self, host: _Host) -> RunOutcome:
        status = host.process.wait()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        error = f"the process that runs the steps ended ({how}); see {self._log_path}"
        return RunOutcome(succeeded=False, error=error, error_type="", seconds=0.0, steps={}, parameters={})


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder until the end of the block; who has inherited it keeps theirs."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _converse(host: _Host, request: Request, on_event: Callable[[StepEvent], None]) -> RunOutcome | None:
    """Hands a request to the host and its events to `on_event`; None if the host ends before it answers."""
    for answer in _answers(host, request):
        if "outcome" in answer:
            return RunOutcome(**answer["outcome"])
        on_event(StepEvent(**answer["event"]))
    # How it ended by itself, rather than by us, is what the message is to name.
    with contextlib.suppress(subprocess.TimeoutExpired):
        host.process.wait(PATIENCE)
    return None


def _answers(host: _Host, request: Request) -> Iterator[dict[str, Any]]:
    """What the host says, until it has gone."""
    with contextlib.suppress(ConnectionError):
        host.channel.sendall(json.dumps(asdict(request)).encode() + b"\n")
        for line in host.answers:
            yield json.loads(line)
