"""
Runs dbt several times in one process, which saves its start: `python run_dbt.py < CASES`, a JSON list of calls.

Each call has `arguments`, `environment`, `directory` and `log`, the file that its standard output goes to; the exit codes are
printed in the end.
"""

import json
import os
import sys

from dbt.cli.main import dbtRunner

before = dict(os.environ)
codes = []
out = os.dup(1)
for call in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update({**before, **call["environment"]})
    os.chdir(call["directory"])
    log = os.open(call["log"], os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    codes.append(0 if dbtRunner().invoke(call["arguments"]).success else 1)
    sys.stdout.flush()
    os.close(log)
os.dup2(out, 1)
json.dump(codes, sys.stdout)
