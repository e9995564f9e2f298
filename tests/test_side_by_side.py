"""`side_by_side.py`, with programs in the place of pytest: its exit status, what it shows, and how an interrupt ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import until

HERE = Path(__file__).parent
# A pytest of our own, which is found first: each part does what its variable says.
PYTEST = """
import os, sys
part = sys.argv[sys.argv.index("--part") + 1]
print(part, "begins with", *sys.argv[3:], flush=True)
exec(os.environ.get(part, ""))
"""
UNTIL_THE_OTHERS_END = """
import pathlib, time
while not pathlib.Path("others end").exists():
    print("airflow goes on", flush=True)
    pathlib.Path("airflow goes on").touch()
    time.sleep(0.05)
print("airflow ends")
"""
ONCE_AIRFLOW_GOES_ON = """
import pathlib, time
while not pathlib.Path("airflow goes on").exists():
    time.sleep(0.05)
print(part, "end")
pathlib.Path(f"{part} end").touch()
"""
WAIT = """
import pathlib, time
try:
    pathlib.Path(part).touch()
    time.sleep(600)
except KeyboardInterrupt:
    print(part, "tidies up", flush=True)
    sys.exit(2)
"""


@pytest.fixture
def begin(tmp_path):
    def begin(**programs):
        (tmp_path / "pytest.py").write_text(PYTEST)
        return subprocess.Popen(
            [sys.executable, str(HERE / "side_by_side.py"), "-m", "not newest"],
            env={**os.environ, **programs, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.mark.parametrize(
    ("airflow", "slow", "others", "status"),
    [(0, 0, 0, 0), (1, 0, 0, 1), (0, 0, 1, 1), (1, 1, 1, 1), (0, 5, 0, 1), (-9, 0, 0, 1)],
)
def test_it_passes_when_all_parts_pass_and_names_the_part_that_does_not(begin, airflow, slow, others, status):
    def end(code):
        return f"sys.exit({code})" if code >= 0 else f"os.kill(os.getpid(), {-code})"

    with begin(airflow=end(airflow), slow=end(slow), others=end(others)) as running:
        output, _ = running.communicate(timeout=240)
    assert running.returncode == status
    names = ("what runs on the shared Airflow", "what else starts pods and programs", "all other tests")
    for part, code in zip(names, (airflow, slow, others), strict=True):
        assert f"\n{part}: {'passed' if code == 0 else f'FAILED (pytest ended with {code})'}\n" in output


def test_the_output_of_a_later_part_comes_in_one_piece_when_it_has_ended(begin):
    later = ONCE_AIRFLOW_GOES_ON
    with begin(airflow=UNTIL_THE_OTHERS_END, slow=later, others=later) as running:
        output, _ = running.communicate(timeout=240)
    assert output.startswith("airflow begins with -m not newest\nairflow goes on\n")
    assert "airflow ends\n" in output
    assert "\n===== all other tests =====\nothers begins with -m not newest\nothers end\n" in output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_an_interrupt_lets_all_parts_tidy_up_and_ends_after_them(begin, tmp_path, signum):
    with begin(airflow=WAIT, slow=WAIT, others=WAIT) as running:
        until(
            lambda: all((tmp_path / part).exists() for part in ("airflow", "slow", "others")), "all parts run"
        )
        running.send_signal(signum)
        output, _ = running.communicate(timeout=240)
    assert running.returncode == 128 + signum
    assert "airflow tidies up\n" in output
    assert "slow tidies up\n" in output
    assert "others tidies up\n" in output
