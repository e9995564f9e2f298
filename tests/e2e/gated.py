"""
A gate that holds dbt back in the middle of its run until a test opens it, so that nothing depends on how fast the machine is.
"""

# Runs dbt as the first process of a container would be run: it gets the signals itself. From the first seed on, or from that of a
# name, its log is handed on when the file of the gate is there, or when it is to end.
GATED = r"""
import os, signal, subprocess, sys, threading, time
gate, after, arguments = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]
dbt = subprocess.Popen(["dbt", *arguments], stdout=subprocess.PIPE)
stopped = threading.Event()
def interrupt(*_):
    stopped.set()
    dbt.send_signal(signal.SIGINT)
signal.signal(signal.SIGINT, interrupt)
for line in dbt.stdout:
    os.write(1, line)
    if b'"LogSeedResult"' in line and after in line:
        while not os.path.exists(gate) and not stopped.is_set():
            time.sleep(0.1)
sys.exit(dbt.wait())
"""


def gated(gate, after="LogSeedResult"):
    """Return the command of a container whose gate is this file, which holds dbt after a seed; by default after the first."""
    return ["python", "-c", GATED, gate, after]
