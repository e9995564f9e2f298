"""dbt as a fork of a process that has imported it: that it is as the program, that nothing leaks, and what kills what."""

import ast
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from serving import DBT, command, wait_for, write_settings

from dbt_watch.server.projects import served_projects
from dbt_watch.server.settings import load_settings
from dbt_watch.server.worker import fork_server, warm
from dbt_watch.server.worker.child import DbtProgram
from dbt_watch.server.worker.processes import is_alive
from dbt_watch.server.worker.warm import NotWarm, WarmProject, adapters_of, interpreter_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere dbt is a program")


class Shop:
    """A project of the stand-in with its fork server, looked after as the consumer does, and its dbts."""

    def __init__(self, home):
        self.home = home
        (self.project,) = served_projects(load_settings(write_settings(home))).values()
        self.project.target_path("dev").mkdir(parents=True)
        self.warm = WarmProject(self.project)

    def wait(self):
        wait_for(lambda: not self.warm.look(may_start=True) and self.warm.pid is not None)
        return psutil.Process(self.warm.pid)

    def call(self, **asked):
        arguments = self.project.arguments(command(**asked), "dev", "debug")
        return arguments, self.project.environment("one", "dev"), self.project.directory

    def start(self, *, program=False, **asked):
        return DbtProgram(*self.call(**asked)) if program else self.warm.fork(*self.call(**asked))

    def run(self, **asked):
        """Return the exit code of a dbt, and what it wrote."""
        return finish(self.start(**asked))

    def notes(self):
        path = self.home / "runs.log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def imports(self):
        return (self.home / "bin/dbt/cli/imports.log").read_text().split()


def finish(dbt):
    output = b""
    while not dbt.has_ended():
        output += dbt.read(0.1)
    # The stand-in says first what it was asked for.
    lines = [line for line in output.decode().splitlines() if '"msg": "arguments' not in line]
    return dbt.close(), "\n".join(lines)


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    process = made.wait()
    yield made
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


FACTS = """
import re, threading
def of_kernel(name):
    return re.search(rf"^{name}:\\s*(.*)$", open("/proc/self/status").read(), re.M)[1]
def is_open(number):
    try: os.fstat(number)
    except OSError: return False
    return True
say(json.dumps({
    "argv": sys.argv, "cwd": os.getcwd(), "environ": dict(os.environ), "umask": os.umask(0o77), "path": sys.path,
    "files": {n: re.sub(r"\\d+", "", os.readlink(f"/proc/self/fd/{n}")) for n in range(100) if is_open(n)},
    "one_pipe": os.fstat(1) == os.fstat(2), "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "signals": {s: str(signal.getsignal(s)).split(" at ")[0] for s in range(1, 32)},
    "of_kernel": [of_kernel(name) for name in ("SigIgn", "SigBlk", "SigCgt", "Threads", "Name", "NoNewPrivs")],
    "main": [sys.modules["__main__"].__name__, sys.modules["__main__"].__file__], "flags": str(sys.flags),
    "threads": [one.name for one in threading.enumerate()], "is_main": threading.current_thread() is threading.main_thread(),
    "streams": [[s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty()] for s in (sys.stdout, sys.stderr)],
    "priority": os.getpriority(os.PRIO_PROCESS, 0), "affinity": sorted(os.sched_getaffinity(0)),
}))
"""


def test_a_fork_is_as_the_program_in_all_that_dbt_can_see(shop):
    said = [shop.run(program=program, run=FACTS)[1] for program in (False, True)]
    forked, program = (json.loads(json.loads(line)["info"]["msg"]) for line in said)
    for name, value in program.items():
        assert forked[name] == value, name
    assert forked["files"] == {"0": "/dev/null", "1": "pipe:[]", "2": "pipe:[]"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit(0)", 0), ("sys.exit(2)", 2), ("sys.exit('a reason')", 1), ("sys.exit(None)", 0), ("sys.exit(257)", 1),
        ("raise ValueError('a reason')", 1), ("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6),
        ("signal.signal(2, signal.default_int_handler); os.kill(os.getpid(), 2); time.sleep(9)", -2),
        ("import atexit; atexit.register(say, 'a reason'); sys.exit(3)", 3),
        ("import threading; threading.Timer(0.2, say, ['a reason']).start(); sys.exit(4)", 4),
    ],
)  # fmt: skip
def test_a_fork_ends_as_the_program_does(shop, code, expected):
    (forked, said), (program, wanted) = (shop.run(program=program, run=code) for program in (False, True))
    assert forked == program == expected
    assert ("a reason" in said) == ("a reason" in wanted) == ("a reason" in code)


def test_nothing_leaks_from_one_invocation_to_the_next(shop):
    shop.run(
        run="os.environ['LEFT'] = '1'; sys.modules['left'] = 1; os.chdir('/'); sys.left = 1; signal.alarm(1)"
    )
    _, said = shop.run(
        run="say(str([os.environ.get('LEFT'), 'left' in sys.modules, hasattr(sys, 'left'), os.getcwd(), signal.alarm(0)]))"
    )
    assert f"[None, False, False, '{shop.project.directory}', 0]" in said


def test_chance_and_numbers_that_must_differ_do_differ(shop):
    code = "import random, uuid, tempfile; say(f'drawn {random.random()} {uuid.uuid4()} {next(tempfile._get_candidate_names())}')"
    drawn = {
        word for _ in range(3) for word in shop.run(run=code)[1].split("drawn ")[1].split('"')[0].split()
    }
    assert len(drawn) == 9


def test_dbt_is_imported_once_for_many_invocations(shop):
    for _ in range(3):
        assert shop.run()[0] == 0
    assert len(shop.imports()) == 1


def test_two_dbts_run_at_a_time(shop):
    both_run = "while runs.read_text().count('begin') < 2: time.sleep(0.02)"
    first, second = (shop.start(run=both_run, say=say) for say in ("first", "second"))
    assert first.pid != second.pid
    assert "first" in finish(first)[1]
    assert "second" in finish(second)[1]
    assert shop.notes() == ["begin", "begin", "end", "end"]


def test_a_dbt_is_interrupted_and_one_that_does_not_hear_is_killed_with_what_it_started(shop, monkeypatch):
    for asked, kill_after, expected in (({}, 240.0, 1), ({"deaf": True}, 0.5, -signal.SIGKILL)):
        monkeypatch.setattr("dbt_watch.server.worker.child.KILL_AFTER_S", kill_after)
        dbt = shop.start(sleep=600, child=600, **asked)
        (sleeper,) = wait_for(lambda pid=dbt.pid: psutil.Process(pid).children())
        until = time.monotonic() + 240
        while not dbt.has_ended() and time.monotonic() < until:
            dbt.read(0.1)
            dbt.interrupt()
        assert dbt.close() == expected
        wait_for(lambda process=sleeper: not runs(process))
    assert shop.notes().count("interrupted") == 1


def test_what_a_dbt_has_left_is_ended_with_it(shop):
    dbt = shop.start(child=60)
    code, _ = finish(dbt)
    assert code == 0
    # It was sent SIGKILL, and needs a moment of its own to end.
    wait_for(lambda: not any(in_session(one.pid, dbt.pid) and runs(one) for one in psutil.process_iter()))


def runs(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def in_session(pid, leader):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getsid(pid) == leader
    return False


def test_a_dbt_ends_with_the_worker(shop):
    """A worker that is killed lets go of its stream, and says nothing."""
    dbt = shop.start(sleep=60, child=60)
    keeper = psutil.Process(dbt.pid).parent()
    family = [keeper, *keeper.children(recursive=True)]
    dbt._stream.close()
    wait_for(lambda: not any(map(runs, family)))


def test_a_dbt_ends_with_its_keeper(shop):
    dbt = shop.start(sleep=60, child=60)
    (sleeper,) = wait_for(lambda: psutil.Process(dbt.pid).children())
    psutil.Process(dbt.pid).parent().kill()
    assert finish(dbt)[0] == -signal.SIGKILL
    assert not is_alive(dbt.pid, dbt.started)
    wait_for(lambda: not runs(sleeper))


def test_a_dbt_goes_on_without_the_fork_server_and_another_takes_its_place(shop):
    dbt = shop.start(sleep=2, say="as ever", exit=3)
    old = psutil.Process(shop.warm.pid)
    old.kill()
    wait_for(lambda: not runs(old))
    new = shop.wait()
    code, said = finish(dbt)
    assert code == 3
    assert "as ever" in said
    assert new.pid != old.pid
    assert shop.run()[0] == 0
    assert len(shop.imports()) == 2


def test_however_the_fork_server_dies_each_invocation_begins_once(shop):
    """Each that has not begun in a fork, begins as a program."""
    stop = threading.Event()

    def strike():
        while not stop.is_set():
            with contextlib.suppress(psutil.Error):
                if shop.warm.pid is not None:
                    psutil.Process(shop.warm.pid).kill()
            stop.wait(random.uniform(0.0, 0.3))

    def look():
        while not stop.is_set():
            shop.warm.look(may_start=True)
            shop.warm._start_at = 0.0
            time.sleep(0.01)

    threads = [threading.Thread(target=work) for work in (strike, look)]
    for thread in threads:
        thread.start()
    count = forked = 0
    # Until there have been both.
    while count < 40 or (count < 1_000 and not 0 < forked < count):
        count += 1
        try:
            dbt = shop.start()
            forked += 1
        except NotWarm:
            dbt = shop.start(program=True)
        assert finish(dbt)[0] == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert 0 < forked < count
    assert shop.notes() == ["begin", "end"] * count


def test_a_dbt_that_has_not_begun_never_does_when_its_worker_has_gone(shop):
    """The worker goes away between the number of dbt and the word that it may begin."""
    stream, theirs = socket.socketpair()
    arguments, environment, directory = shop.call()
    request = {"arguments": arguments, "environment": environment, "directory": str(directory)}
    body = json.dumps(request).encode()
    with theirs, open(os.devnull, "w") as output:  # noqa: PTH123
        socket.send_fds(shop.warm._sending, [b"r"], [theirs.fileno(), output.fileno()])
    stream.sendall(fork_server.LENGTH.pack(len(body)) + body)
    process = psutil.Process(warm._number(stream))
    stream.close()
    wait_for(lambda: not runs(process))
    assert shop.notes() == []


def test_what_was_installed_anew_is_imported_anew(shop):
    shop.run()
    (shop.home / "bin/dbt_core-9.dist-info").mkdir()
    with pytest.raises(NotWarm):
        shop.start()
    # Its streams are closed a moment before it has ended.
    wait_for(lambda: shop.warm.look(may_start=False) or shop.warm.pid is None)
    shop.wait()
    assert shop.run()[0] == 0
    assert len(shop.imports()) == 2
    script = shop.home / DBT
    script.write_text(f"{script.read_text()}# another\n")
    with pytest.raises(NotWarm):
        shop.start()


def test_another_script_than_the_one_of_the_fork_server_is_no_fork(shop):
    arguments, environment, directory = shop.call()
    with pytest.raises(NotWarm):
        shop.warm.fork(["/bin/other", *arguments[1:]], environment, directory)


def test_nobody_waits_for_a_fork_server_that_is_not_there(shop, monkeypatch):
    monkeypatch.setattr(warm, "_PATIENCE", 600.0)
    os.kill(shop.warm.pid, signal.SIGKILL)
    wait_for(lambda: shop.warm.look(may_start=False) or shop.warm.pid is None)
    refused = []

    def ask():
        with pytest.raises(NotWarm):
            shop.start()
        refused.append(time.monotonic())

    thread, began = threading.Thread(target=ask), time.monotonic()
    thread.start()
    while thread.is_alive():
        shop.warm.look(may_start=False)
        time.sleep(0.05)
    assert refused[0] - began < 240
    assert shop.notes() == []


def test_a_fork_server_that_does_not_answer_is_waited_for_a_while(shop, monkeypatch):
    os.kill(shop.warm.pid, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(warm, "_PATIENCE", 0.5)
        with pytest.raises(NotWarm):
            shop.start()
    os.kill(shop.warm.pid, signal.SIGCONT)
    # It finds the request, and nobody who made it.
    assert shop.run()[0] == 0
    assert shop.notes() == ["begin", "end"]


def test_imports_that_start_threads_are_not_forked(tmp_path):
    shop = Shop(tmp_path)
    main = tmp_path / "bin/dbt/cli/main.py"
    main.write_text(
        f"import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{main.read_text()}"
    )
    wait_for(lambda: not shop.warm.look(may_start=True) and "threads" in shop.warm._said)
    assert shop.warm.pid is None


def test_an_adapter_whose_import_starts_threads_is_left_to_each_dbt(tmp_path):
    shop = Shop(tmp_path)
    (shop.project.profiles_dir / "profiles.yml").write_text("shop: {target: dev}\n  type: threaded\n")
    adapter = tmp_path / "bin/dbt/adapters/threaded"
    adapter.mkdir(parents=True)
    (adapter / "__init__.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    process = shop.wait()
    assert len(shop.imports()) == 2
    assert process.num_threads() == 1
    assert shop.run(run="import dbt.adapters.threaded, threading; say(str(threading.active_count()))")[0] == 0
    process.kill()


def test_an_import_that_fails_leaves_dbt_a_program(tmp_path):
    shop = Shop(tmp_path)
    (tmp_path / "bin/dbt/cli/main.py").write_text("raise RuntimeError\n")
    while shop.warm.look(may_start=True):
        time.sleep(0.05)
    assert shop.warm.pid is None
    # It is tried again, in a while.
    assert shop.warm._start_at > time.monotonic()


LONG = "/a very/" + 30 * "long/" + "bin/python"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("#!/venv/bin/python\n", ["/venv/bin/python"]),
        ("#!/venv/bin/python3.11 -E\n# -*- coding: utf-8 -*-\nimport re\n", ["/venv/bin/python3.11", "-E"]),
        ("#!/usr/bin/env python3\n", ["/usr/bin/env", "python3"]),
        (f"#!/bin/sh\n'''exec' \"{LONG}\" \"$0\" \"$@\"\n' '''\n", [LONG]),
        (f"#!/bin/sh\n'''exec' '{LONG}' \"$0\" \"$@\"\n' '''\n", [LONG]),
        ("#!/bin/sh\n# a wrapper around\n", None),
        ("\x7fELF", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_interpreter_is_that_of_the_console_script(tmp_path, head, expected):
    script = tmp_path / "dbt"
    script.write_text(f"{head}import sys\nfrom dbt.cli.main import cli\nsys.exit(cli())\n")
    assert interpreter_of(str(script)) == expected


def test_a_script_that_is_not_that_of_dbt_core_is_a_program(tmp_path):
    script = tmp_path / "dbt"
    for text in (
        "#!/venv/bin/python\nimport os\nos.execv('/opt/dbt', ['dbt'])\n",
        "#!/bin/sh\nexec python -m dbt.cli.main\n",
    ):
        script.write_text(text)
        assert interpreter_of(str(script)) is None
    script.write_bytes(bytes(range(256)) * 100)
    assert interpreter_of(str(script)) is None


def test_a_dbt_of_another_kind_is_said_to_be_a_program_once(tmp_path, caplog):
    shop = Shop(tmp_path)
    (tmp_path / DBT).write_text("#!/bin/sh\nexec dbt-fusion\n")
    for _ in range(5):
        shop.warm._start_at = 0.0
        assert not shop.warm.look(may_start=True)
    assert caplog.text.count("is started as a new program each time") == 1


def test_the_adapters_are_those_of_the_profiles(tmp_path):
    path = tmp_path / "profiles.yml"
    assert adapters_of(path) == []
    path.write_text(
        "shop:\n  outputs:\n    dev: # type: no\n      type: duckdb\n    prod:\n      'type': \"postgres\" # yes\n"
        "      type: '{{ env_var(\"TYPE\") }}'\n      type: ../../evil\n"
    )
    assert adapters_of(path) == ["duckdb", "postgres"]


def test_a_fork_server_has_nothing_that_a_fork_could_inherit(shop):
    shop.run()
    process = psutil.Process(shop.warm.pid)
    wait_for(lambda: not any(map(runs, process.children())))
    assert (process.num_threads(), process.net_connections()) == (1, [])


def test_no_module_beside_the_fork_server_hides_one_of_python():
    beside = {path.stem for path in Path(fork_server.__file__).parent.glob("*.py")}
    assert not beside & set(sys.stdlib_module_names)


def test_the_fork_server_is_understood_by_the_oldest_python_of_dbt():
    """3.8, of dbt 1.8."""
    ast.parse(Path(fork_server.__file__).read_text(), feature_version=(3, 8))
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import fork_server; print(*sys.modules)",
         str(Path(fork_server.__file__).parent)],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert {name.partition(".")[0] for name in loaded} <= {
        *sys.stdlib_module_names,
        "__main__",
        "fork_server",
    }
