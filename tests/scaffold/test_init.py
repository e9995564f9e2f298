"""`dbt-watch init`: what it writes for a dbt project, and what it refuses."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from dbt_watch import cli
from dbt_watch.scaffold.image_table import with_image

PROFILE = """\
{name}:
  target: prod
  outputs:
    prod:
      type: {adapter}
      host: "{{{{ env_var('PGHOST') }}}}"
      port: "{{{{ env_var('PGPORT', '5432') | int }}}}"
      password: "{{{{ env_var('DBT_ENV_SECRET_PGPASSWORD') }}}}"
"""
DAG, DOCKERFILE, IGNORED, GITHUB, GITLAB = (
    "dags/shop_dag.py",
    "Dockerfile",
    ".dockerignore",
    ".github/workflows/dbt-image.yml",
    ".gitlab-ci.yml",
)
MANIFEST = '{"metadata": {"dbt_version": "1.10.4", "adapter_type": "snowflake"}}'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Stands in for the home of whoever runs the tests, which may have profiles."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty directory, in which the command runs."""
    directory = tmp_path / "repository"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def made(repository):
    """Return a function that makes a dbt project in the repository."""

    def make(place=".", name="shop", *, more="", adapter="postgres"):
        directory = repository / place
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "dbt_project.yml").write_text(f"name: {name}\nprofile: shop\n{more}")
        if adapter:
            (directory / "profiles.yml").write_text(PROFILE.format(name="shop", adapter=adapter))
        return directory

    return make


@pytest.fixture
def init(capsys):
    """Return a function that runs the command: exit status, standard output, standard error."""

    def run(*arguments):
        status = cli.main(["init", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def files_in(directory):
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def instructions(dockerfile):
    """Return the instructions of a Dockerfile without comments, each in one line."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    return [line for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines() if line]


def github(repository):
    # What YAML 1.1 reads as True is the key `on`.
    return {
        "on" if key is True else key: value
        for key, value in yaml.safe_load((repository / GITHUB).read_text()).items()
    }


def airflow_dags(path):
    """Return the DAGs of a file, as Airflow collects them."""
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # noqa: PLC0415
    bag = DagBag(str(path.parent), collect_dags=False)
    bag.process_file(str(path))
    assert not bag.import_errors
    return list(bag.dags.values())


def ruff(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


# What is written.


@pytest.fixture
def jaffle_shop(repository, project):
    return shutil.copytree(project, repository / "dbt/jaffle_shop")


def test_the_example_gets_a_dag_that_airflow_parses(repository, jaffle_shop, init):
    options = ("--image", "registry.example/shop-dbt:1.4", "--namespace", "dbt", "--dag-id", "shop.nightly")
    status, _, err = init(*options)
    assert (status, err) == (0, "")
    (dag,) = airflow_dags(repository / "dags/jaffle_shop_dag.py")
    producer = dag.get_task("build.dbt_build")
    assert (dag.dag_id, producer.image, producer.namespace, producer.project_dir, producer.retries) == (
        "shop.nightly",
        "registry.example/shop-dbt:1.4",
        "dbt",
        "/usr/app/jaffle_shop",
        2,
    )
    assert "build.customers" in dag.task_ids


def test_the_image_of_the_example_has_the_dbt_that_wrote_its_manifest(jaffle_shop, init):
    init()
    (pip,) = [line for line in instructions(jaffle_shop / DOCKERFILE) if "pip install" in line]
    assert re.fullmatch(r'RUN pip install --no-cache-dir "dbt-core==1\.\d+\.\*" "dbt-duckdb"', pip)


@pytest.mark.parametrize("options", [[], ["--dag-id", "shop.nightly"]])
@pytest.mark.parametrize("adapter", ["postgres", None])
def test_the_dag_passes_ruff(repository, made, init, options, adapter):
    made(adapter=adapter)
    init("--adapter", "postgres", *options)
    rules = "E,F,W,I,B,UP,SIM,DTZ,RUF"
    ruff("check", "--isolated", "--target-version", "py310", "--select", rules, repository / DAG)
    ruff("format", "--isolated", "--check", repository / DAG)


@pytest.mark.parametrize("name", ["dag", "build", "class", "dbt_k8s_project", "_", "Shop2"])
def test_a_name_that_python_or_the_file_has_taken_is_no_trouble(repository, made, init, name):
    made(name=name)
    status, out, _ = init()
    assert status == 0
    source = (repository / f"dags/{name}_dag.py").read_text()
    compile(source, "dag.py", "exec")
    assert f'dag_id="{name}"' in source or f"def {name}():" in source
    assert f"dags/{name}_dag.py" in out


def test_a_project_below_gets_its_dockerfile_and_the_repository_the_rest(repository, made, init):
    made("dbt/shop")
    assert init()[0] == 0
    assert files_in(repository) == {
        "dbt/shop/dbt_project.yml",
        "dbt/shop/profiles.yml",
        f"dbt/shop/{DOCKERFILE}",
        f"dbt/shop/{IGNORED}",
        DAG,
        GITHUB,
    }
    assert 'manifest="../dbt/shop/target/manifest.json"' in (repository / DAG).read_text()
    assert github(repository)["jobs"]["image"]["env"]["PROJECT"] == "dbt/shop"


def test_a_target_path_of_the_project_is_followed_everywhere(repository, made, init):
    made("dbt", more="target-path: out/dbt\n")
    init()
    assert 'manifest="../dbt/out/dbt/manifest.json"' in (repository / DAG).read_text()
    assert "/usr/app/shop/out/dbt/manifest.json" in (repository / GITHUB).read_text()
    assert "out/dbt" in (repository / "dbt" / IGNORED).read_text().splitlines()


def test_the_image_runs_as_a_user_and_holds_a_parsed_project(made, init):
    directory = made(more="require-dbt-version: ['>=1.9.0', '<2.0.0']\n")
    init()
    assert instructions(directory / DOCKERFILE) == [
        "FROM python:3.12-slim",
        'RUN pip install --no-cache-dir "dbt-core>=1.9.0,<2.0.0" "dbt-postgres"',
        "RUN useradd --uid 10001 --create-home dbt && install -d -o dbt -g dbt /usr/app/shop",
        "USER 10001",
        "WORKDIR /usr/app/shop",
        "COPY --chown=dbt:dbt . .",
        "RUN PGHOST=0 DBT_ENV_SECRET_PGPASSWORD=stand-in dbt parse",
    ]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "packages.yml",
            "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.3.0\n",
            ["RUN dbt deps"],
        ),
        (
            "dependencies.yml",
            'packages:\n  - git: "https://git.example/macros.git"\n',
            ["RUN apt-get update", "RUN dbt deps"],
        ),
        ("packages.yml", "packages: []\n", []),
    ],
)
def test_packages_are_installed_before_the_parse_with_git_where_they_need_it(
    made, init, file, text, expected
):
    directory = made()
    (directory / file).write_text(text)
    init()
    lines = instructions(directory / DOCKERFILE)
    assert [line.partition(" &&")[0] for line in lines if "apt-get" in line or "deps" in line] == expected
    assert lines[-1].endswith("dbt parse")


def test_without_a_profile_in_the_project_the_build_borrows_one(repository, made, init, home):
    directory = made(adapter=None)
    (home / ".dbt").mkdir(parents=True)
    (home / ".dbt/profiles.yml").write_text(PROFILE.format(name="shop", adapter="redshift"))
    _, out, _ = init()
    assert '"dbt-redshift"' in (directory / DOCKERFILE).read_text()
    assert instructions(directory / DOCKERFILE)[-1] == (
        "RUN --mount=type=secret,id=profiles,target=/run/dbt/profiles.yml,uid=10001,required=true"
        " dbt parse --profiles-dir /run/dbt"
    )
    assert "profile=DbtProfile(" in (repository / DAG).read_text()
    (built,) = [
        step for step in github(repository)["jobs"]["image"]["steps"] if "docker build" in step.get("run", "")
    ]
    assert built["run"].startswith("docker build --secret id=profiles,env=DBT_PROFILES ")
    assert list(built["env"]) == ["DBT_PROFILES"]
    assert '--secret id=profiles,src="$HOME/.dbt/profiles.yml"' in out


@pytest.mark.parametrize(
    ("profile", "manifest", "options", "expected"),
    [
        (PROFILE.format(name="shop", adapter="bigquery"), MANIFEST, [], "dbt-bigquery"),
        (PROFILE.format(name="shop", adapter="bigquery"), MANIFEST, ["--adapter", "trino"], "dbt-trino"),
        (PROFILE.format(name="other", adapter="bigquery"), MANIFEST, [], "dbt-snowflake"),
        ("shop:\n  target: \"{{ env_var('T') }}\"\n  outputs:\n    a: {type: duckdb}\n    b: {type: duckdb}\n", None, [], "dbt-duckdb"),
    ],
)  # fmt: skip
def test_the_adapter_is_what_the_option_the_profile_or_the_manifest_says(
    made, init, profile, manifest, options, expected
):
    directory = made()
    (directory / "profiles.yml").write_text(profile)
    if manifest:
        (directory / "target").mkdir()
        (directory / "target/manifest.json").write_text(manifest)
    assert init(*options)[0] == 0
    assert f'"{expected}"' in (directory / DOCKERFILE).read_text()


def test_the_workflow_for_github_builds_both_from_one_commit(repository, made, init):
    made("dbt/shop")
    init()
    workflow = github(repository)
    assert {"name", "on", "permissions", "jobs"} <= set(workflow)
    assert workflow["on"]["push"]["paths"] == ["dbt/shop/**", GITHUB]
    steps = workflow["jobs"]["image"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    text = "\n".join(step.get("run", "") for step in steps)
    assert "ghcr.io/${GITHUB_REPOSITORY,,}/shop-dbt" in text
    assert 'docker cp "$container:/usr/app/shop/target/manifest.json" manifest.json' in text
    (push,) = [step for step in steps if "docker push" in step.get("run", "")]
    assert push["if"] == "github.event_name == 'push'"
    assert steps[-1]["with"]["name"] == "dbt-manifest-${{ github.sha }}"


def test_an_image_with_a_registry_is_pushed_to_that(repository, made, init):
    made()
    init("--image", "registry.example:5000/team/shop:2", "--ci", "github")
    image = github(repository)["jobs"]["image"]
    assert image["env"]["IMAGE"] == "registry.example:5000/team/shop"
    (push,) = [step for step in image["steps"] if "docker push" in step.get("run", "")]
    assert push["env"]["REGISTRY"] == "registry.example:5000"
    assert 'docker push "$IMAGE:2"' in push["run"]


@pytest.mark.parametrize("image", ["shop:2", "registry.example/shop:2"])
def test_the_pipeline_for_gitlab_does_the_same(repository, made, init, image):
    made("dbt shop")
    assert init("--ci", "gitlab", "--image", image)[0] == 0
    assert not (repository / GITHUB).exists()
    job = yaml.safe_load((repository / GITLAB).read_text())["dbt-image"]
    assert job["rules"] == [{"changes": ["dbt shop/**", GITLAB]}]
    assert job["variables"]["PROJECT"] == "dbt shop"
    assert all(isinstance(line, str) for line in job["script"])
    assert 'docker push "$IMAGE:2"' in job["script"][-1]
    assert job["artifacts"]["paths"] == ["manifest.json"]


@pytest.mark.parametrize("ci", [GITHUB, GITLAB])
def test_what_the_shell_of_a_workflow_runs_is_shell(repository, made, init, ci):
    made("dbt shop", adapter=None)
    init("--ci", "gitlab" if ci == GITLAB else "github", "--adapter", "postgres")
    if ci == GITLAB:
        scripts = yaml.safe_load((repository / GITLAB).read_text())["dbt-image"]["script"]
    else:
        scripts = [step["run"] for step in github(repository)["jobs"]["image"]["steps"] if "run" in step]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, check=True, text=True, timeout=240)


def test_it_ends_with_what_to_do_next(made, init):
    made("dbt shop")
    assert init()[1].endswith(
        "\nNext:\n"
        "  dbt parse --project-dir 'dbt shop' --profiles-dir 'dbt shop'\n"
        "  dbt-watch run dags/shop_dag.py\n"
        "  docker build --tag shop-dbt:latest 'dbt shop'\n"
    )


# What is there already.


def test_no_file_is_overwritten_unless_it_is_asked_for(repository, made, init):
    made()
    (repository / DOCKERFILE).write_text("FROM scratch\n")
    status, out, _ = init()
    assert status == 1
    assert (repository / DOCKERFILE).read_text() == "FROM scratch\n"
    assert "kept       Dockerfile: a different file exists" in out
    assert (repository / DAG).exists()
    assert init("--force")[0] == 0
    assert "dbt parse" in (repository / DOCKERFILE).read_text()


def test_a_link_to_nowhere_is_not_followed(repository, made, init, tmp_path):
    made()
    (repository / DOCKERFILE).symlink_to(tmp_path / "elsewhere")
    assert init()[0] == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_run_changes_nothing(repository, made, init):
    made()
    (repository / "pyproject.toml").write_text('[project]\nname = "x"\n')
    init()
    before = {name: (repository / name).read_bytes() for name in files_in(repository)}
    status, out, _ = init()
    assert status == 0
    assert "written" not in out
    assert {name: (repository / name).read_bytes() for name in files_in(repository)} == before


def test_a_dry_run_prints_all_of_it_and_writes_nothing(repository, made, init):
    made("dbt")
    before = files_in(repository)
    status, out, _ = init("--dry-run")
    assert (status, files_in(repository)) == (0, before)
    for name in (DAG, "dbt/Dockerfile", "dbt/.dockerignore", GITHUB):
        assert f"----- {name} -----\n" in out
    assert '[tool.dbt_watch.images]\n"shop-dbt:latest" = "dbt"\n' in out


def test_pyproject_toml_gets_the_image_and_its_directory(repository, made, init):
    made("dbt/shop")
    (repository / "pyproject.toml").write_text('[project]\nname = "x"  # as it was')
    init()
    assert (repository / "pyproject.toml").read_text() == (
        '[project]\nname = "x"  # as it was\n\n[tool.dbt_watch.images]\n"shop-dbt:latest" = "dbt/shop"\n'
    )


def test_without_a_pyproject_toml_the_lines_are_shown(repository, made, init):
    made()
    _, out, _ = init()
    assert not (repository / "pyproject.toml").exists()
    assert '[tool.dbt_watch.images]\n"shop-dbt:latest" = "."\n' in out


@pytest.mark.parametrize(
    "text", ['[tool.dbt_watch.images]\n"other:1" = "dbt/other"\n', "[tool]\ndbt_watch = { images = {} }\n"]
)
def test_where_something_of_ours_is_there_the_lines_are_shown(repository, made, init, text):
    made()
    (repository / "pyproject.toml").write_text(text)
    assert '"shop-dbt:latest" = "."\n' in init()[1]
    assert (repository / "pyproject.toml").read_text() == text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot read TOML")
def test_to_what_is_no_toml_nothing_is_appended():
    assert with_image("[project", "shop:1", ".") is None


# What is refused.


def test_without_a_project_it_says_so(repository, init):
    for name in (".hidden", "dbt_packages/utils", "venv/lib/site-packages/dbt"):
        (repository / name).mkdir(parents=True)
        (repository / name / "dbt_project.yml").write_text("name: utils\n")
    status, _, err = init()
    assert status == 2
    assert "expected a dbt project, a dbt_project.yml there or below" in err


def test_of_several_projects_one_has_to_be_named(repository, made, init):
    made("dbt/shop")
    made("dbt/shop/integration_tests", name="shop_tests")
    made("dbt/finance", name="finance")
    status, _, err = init()
    assert status == 2
    assert err.endswith(": dbt/finance, dbt/shop\n")
    assert init("--project", "dbt/shop")[0] == 0
    assert (repository / DAG).exists()


@pytest.mark.parametrize(
    "name", ["it's", '"shop"; import os  # \'', "'two words'", "2shop", "shöp", "[shop]", "''", "3"]
)
def test_a_hostile_name_of_a_project_is_refused(repository, made, init, name):
    made(name=name)
    before = files_in(repository)
    status, _, err = init()
    assert status == 2
    assert "name in dbt_project.yml=" in err or "expected YAML" in err
    assert files_in(repository) == before


@pytest.mark.parametrize("place", ["it's", 'a"b', "a$(x)", "${{ x }}", "a\nb", "a,b", "a`b", "a\\b", "*"])
def test_a_hostile_directory_is_refused(made, init, place):
    made(place)
    status, _, err = init()
    assert status == 2
    assert "expected a path of letters, digits, spaces" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image", "shop 1"], "--image='shop 1': expected an image name"),
        (["--image", 'shop:1"'], "--image="),
        (["--image", "Shop"], "--image="),
        (["--namespace", "DBT"], "--namespace='DBT': expected the name of a namespace"),
        (["--dag-id", 'a"b'], "--dag-id="),
        (["--adapter", "post gres"], "--adapter="),
        (["--project", "nowhere"], "--project='nowhere': expected a directory with a dbt_project.yml"),
        (["--project", "../elsewhere"], "--project="),
        (["nowhere"], "directory='nowhere': expected a directory"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(repository, made, init, options, message):
    made()
    (repository.parent / "elsewhere").mkdir()
    (repository.parent / "elsewhere/dbt_project.yml").write_text("name: x\n")
    before = files_in(repository)
    status, out, err = init(*options)
    assert (status, out) == (2, "")
    assert message in err
    assert files_in(repository) == before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dbt_project.yml", "name: [", "expected YAML: "),
        ("dbt_project.yml", "- name", "expected a mapping in YAML"),
        ("profiles.yml", "a: {{ b }}: c", "expected YAML: "),
        (
            "profiles.yml",
            "shop: {outputs: {a: {type: x}, b: {type: y}}}",
            "--adapter=None: expected the `type` of",
        ),
        ("profiles.yml", "other: {}", "--adapter=None: expected the `type` of the profile 'shop'"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(made, init, file, text, message):
    (made() / file).write_text(text)
    status, _, err = init()
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_file_in_the_way_of_a_directory_is_an_error(repository, made, init):
    made()
    (repository / "dags").write_text("")
    status, _, err = init()
    assert status == 2
    assert "dags" in err
