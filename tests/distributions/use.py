"""
Use both commands of a clean installation, away from the checkout. `nox -s build` runs it with the Python of that installation.

    python tests/distributions/use.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def main() -> None:
    """Parse, plan and begin the example project as it was installed, and look for the provider."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)

        def run(program: str, *arguments: str, cwd: Path = home) -> str:
            env = {
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "HOME": str(home),
                "AIRFLOW_HOME": str(home / "airflow"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            }
            command = [str(BIN / program), *arguments]
            done = subprocess.run(
                command, cwd=cwd, env=env, check=False, stdout=subprocess.PIPE, text=True, timeout=300
            )
            if done.returncode:
                sys.exit(f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
            print("ok:", program, *arguments)
            return done.stdout

        package = Path(run("python", "-c", "import dbt_watch; print(dbt_watch.__file__)").strip()).parent
        assert package != CHECKOUT / "dbt_watch"
        assert "commands:" in run("dbt-watch", "--help")
        shutil.copytree(package / "examples/jaffle_shop", home / "shop")
        run("dbt", "parse", cwd=home / "shop")
        assert "customers" in run("dbt-watch", "ls", "--manifest", "shop/target/manifest.json")
        assert "in 1 pod" in run("dbt-watch", "plan", "--manifest", "shop/target/manifest.json")
        run("dbt-watch", "init", "--image", "shop:1")
        assert "in 1 pod" in run("dbt-watch", "plan", "dags/jaffle_shop_dag.py")
        run("dbt-watch", "demo", "--help")
        run("python", "-c", "import dbt_watch.page.app")
        providers = json.loads(run("airflow", "providers", "list", "--output", "json"))
        assert "dbt-watch" in {provider["package_name"] for provider in providers}


if __name__ == "__main__":
    main()
