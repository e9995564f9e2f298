"""What the user gives: images, secrets and config maps, on the command line and in a pyproject.toml."""

import os
import sys

import pytest

from dbt_watch.cli import main
from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.run import stand_ins as stand_ins_module
from dbt_watch.local.run.connections import taken_over
from dbt_watch.local.run.objects import SECRET, objects
from dbt_watch.local.run.pyproject import nearest_pyproject
from dbt_watch.local.run.stand_ins import default_venv, stand_ins

NAME = "registry.example/shop-dbt:1.4"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a dbt project, an environment with dbt and one without, and a folder for DAGs."""
    for directory in ("dbt/shop", "venvs/dbt/bin", "venvs/bare/bin", "dags/nightly"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "dbt/shop/dbt_project.yml").write_text("name: shop\n")
    (tmp_path / "venvs/dbt/bin/dbt").touch(mode=0o755)
    (tmp_path / "venvs/dbt/pyvenv.cfg").touch()
    (tmp_path / "dags/nightly/shop.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "venvs/dbt/bin"))
    return tmp_path


def pyproject(place, text=""):
    (place / "pyproject.toml").write_text(text)
    return nearest_pyproject(place / "dags/nightly/shop.py")


def only(found):
    (one,) = found.values()
    return one


def test_an_image_is_a_project_and_a_virtual_environment(place):
    one = only(stand_ins([f"{NAME}=dbt/shop,venvs/dbt"], pyproject(place)))
    assert (one.image, one.project, one.venv) == (NAME, place / "dbt/shop", place / "venvs/dbt")
    assert (one.mount, one.entrypoint) == (None, ("dbt",))


def test_without_a_virtual_environment_it_is_the_one_of_the_dbt_that_a_shell_finds(place):
    assert only(stand_ins([f"{NAME}=dbt/shop"], pyproject(place))).venv == place / "venvs/dbt"


def test_a_link_on_path_leads_into_the_environment_that_it_was_made_for(place, monkeypatch):
    (place / "bin").mkdir()
    (place / "bin/dbt").symlink_to(place / "venvs/dbt/bin/dbt")
    monkeypatch.setenv("PATH", str(place / "bin"))
    assert default_venv() == place / "venvs/dbt"


def test_where_no_dbt_is_on_path_the_environment_that_runs_this_does_if_it_has_one(place, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", str(place / "venvs/dbt"))
    assert default_venv() == place / "venvs/dbt"
    monkeypatch.setattr(sys, "prefix", str(place / "venvs/bare"))
    assert default_venv() is None


def test_an_image_may_have_no_project(place):
    one = only(stand_ins(["tools:2=,venvs/bare"], pyproject(place)))
    assert (one.project, one.venv, one.entrypoint) == (None, place / "venvs/bare", ())
    assert one.as_image(None, {}).workdir == "/"


def test_the_nearest_pyproject_says_what_stands_for_images(place):
    table = f"""
        [tool.dbt_watch.images]
        "tools:2" = ",venvs/bare"

        [tool.dbt_watch.images."{NAME}"]
        project = "dbt/shop"
        venv = "venvs/dbt"
        mount = "/srv/shop"
        env = {{ DBT_TARGET = "local" }}
        entrypoint = ["python", "-m", "dbt.cli.main"]
    """
    found = stand_ins([], pyproject(place, table))
    assert set(found) == {"tools:2", NAME}
    image = found[NAME].as_image(found[NAME].mount, {})
    assert image.mounts == {"/srv/shop": place / "dbt/shop"}
    assert (image.workdir, image.env["DBT_TARGET"]) == ("/srv/shop", "local")
    assert image.entrypoint == ("python", "-m", "dbt.cli.main")


def test_a_pod_parses_its_project_anew_unless_the_pyproject_says_otherwise(place):
    """What dbt has kept in `target` names files as they are seen from where it was called."""
    table = """
        [tool.dbt_watch.images]
        a = "dbt/shop"
        b = { project = "dbt/shop", env = { DBT_PARTIAL_PARSE = "true" } }
    """
    found = stand_ins([], pyproject(place, table))
    assert [
        found[f"{name}:latest"].as_image("/srv/shop", {}).env["DBT_PARTIAL_PARSE"] for name in ("a", "b")
    ] == [
        "false",
        "true",
    ]


def test_the_command_line_wins_over_the_pyproject(place):
    (place / "other").mkdir()
    (place / "other/dbt_project.yml").touch()
    table = '[tool.dbt_watch.images]\n"shop" = "dbt/shop"\n'
    assert only(stand_ins(["shop:latest=other"], pyproject(place, table))).project == place / "other"


def test_where_there_is_no_pyproject_nothing_is_given(place):
    found = nearest_pyproject(place / "dags/nightly")
    if found.path is None:
        assert (found.directory, found.images) == (place / "dags/nightly", {})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("shop:1", r"^--image='shop:1': expected NAME=PROJECT\[,VENV\]"),
        ("shop:1=", r"--image='shop:1=': expected NAME=PROJECT"),
        ("not an image=dbt/shop", r"expected the name of an image"),
        ("shop:1=nowhere", r"--image='.*/nowhere': expected an existing directory of a dbt project"),
        ("shop:1=dags", r"--image='.*/dags': expected .* with a dbt_project.yml"),
        ("shop:1=dbt/shop,nowhere", r"--image='.*/nowhere': expected a virtual environment"),
        ("shop:1=dbt/shop,venvs/bare", r"--image='.*/venvs/bare': expected a virtual environment with dbt"),
    ],
)
def test_what_cannot_stand_for_an_image_is_refused_by_name(place, option, message):
    with pytest.raises(ArgumentError, match=message):
        stand_ins([option], pyproject(place))


def test_an_image_is_given_once(place):
    with pytest.raises(ArgumentError, match=r"--image='shop': expected each image once"):
        stand_ins(["shop:latest=dbt/shop", "shop=dbt/shop"], pyproject(place))


def test_a_project_without_any_dbt_is_told_how_to_say_one(place, monkeypatch):
    monkeypatch.setattr(stand_ins_module, "default_venv", lambda: None)
    with pytest.raises(ArgumentError, match="with dbt after a comma: there is no dbt on PATH"):
        stand_ins(["shop:1=dbt/shop"], pyproject(place))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.dbt_watch]\nimage = 1", r"tool.dbt_watch='image': expected one of .*; did you mean images"),
        ("[tool.dbt_watch]\nimages = 1", r"tool.dbt_watch.images=1: expected a table"),
        (
            '[tool.dbt_watch.images."shop:1"]\nprojekt = "dbt/shop"',
            r'tool.dbt_watch.images."shop:1"=\'projekt\': expected one of .*; did you mean project',
        ),
        ('[tool.dbt_watch.images]\n"shop:1" = 3', r'images."shop:1"=3: expected the path of a dbt project'),
        ('[tool.dbt_watch.images."s:1"]\nmount = "srv"', r"mount='srv': expected an absolute path"),
        ('[tool.dbt_watch.images."s:1"]\nenv = { A = 1 }', r"env.A=1: expected a text"),
        ('[tool.dbt_watch.images."s:1"]\nentrypoint = "dbt"', r"entrypoint='dbt': expected a list"),
        ("[tool.dbt_watch", r"pyproject.toml=.*expected TOML"),
    ],
)
def test_what_is_wrong_in_a_pyproject_is_refused_by_its_key(place, table, message):
    with pytest.raises(ArgumentError, match=message):
        stand_ins([], pyproject(place, table))


def test_secrets_come_from_texts_files_and_the_environment_and_the_command_line_wins(place, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "from the environment")
    (place / "key.pem").write_bytes(b"\xff")
    table = """
        [tool.dbt_watch.secrets.warehouse]
        user = "shop"
        password = { env = "SHOP_PASSWORD" }
        key = { file = "key.pem" }
    """
    given = ["warehouse:user=admin", "warehouse:cert=@key.pem", "other:a=b=c"]
    assert objects(SECRET, given, "secrets", pyproject(place, table)) == {
        "warehouse": {"user": "admin", "password": "from the environment", "key": b"\xff", "cert": b"\xff"},
        "other": {"a": "b=c"},
    }


@pytest.mark.parametrize("text", ["warehouse", "warehouse=s3cret", "warehouse:=s3cret", ":key=s3cret"])
def test_a_secret_that_is_not_of_the_form_is_refused_without_its_value(place, text):
    with pytest.raises(ArgumentError, match=r"--secret=.*expected NAME:KEY=VALUE") as refused:
        objects(SECRET, [text], "secrets", pyproject(place))
    assert "s3cret" not in str(refused.value)


def test_a_source_of_a_secret_that_is_not_there_is_refused(place):
    with pytest.raises(ArgumentError, match="--secret a:b='nowhere': expected a file that can be read"):
        objects(SECRET, ["a:b=@nowhere"], "secrets", pyproject(place))
    table = '[tool.dbt_watch.secrets.a]\nb = { env = "SURELY_NOT_SET" }'
    with pytest.raises(ArgumentError, match=r"secrets.a.b='SURELY_NOT_SET': expected a variable"):
        objects(SECRET, [], "secrets", pyproject(place, table))


def test_connections_and_variables_are_taken_over_and_clusters_lead_to_localkube():
    taken = taken_over(
        {
            "AIRFLOW_VAR_REGION": "eu",
            "AIRFLOW_CONN_SHOP": "postgres://shop",
            "AIRFLOW_CONN_PRODUCTION": '{"conn_type": "kubernetes", "extra": "{\\"namespace\\": \\"dbt\\"}"}',
            "AIRFLOW_CONN_STAGING": "kubernetes://?in_cluster=True",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW_HOME": "/opt/airflow",
            "HOME": "/root",
        }
    )
    assert taken.variables == {"AIRFLOW_VAR_REGION": "eu", "AIRFLOW_CONN_SHOP": "postgres://shop"}
    assert taken.left_out == ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR")
    made = taken.connections(["production", "other"], "/kubeconfig")
    assert set(made) == {
        f"AIRFLOW_CONN_{name}" for name in ("PRODUCTION", "STAGING", "OTHER", "KUBERNETES_DEFAULT")
    }
    assert all('"kube_config_path": "/kubeconfig"' in value for value in made.values())
    assert '"namespace": "dbt"' in made["AIRFLOW_CONN_PRODUCTION"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "FILE='nowhere.py': expected an existing DAG file"),
        (["dags", "--conf", "[1]"], "--conf='[1]': expected a JSON object"),
        (["dags", "--param", "day"], "--param='day': expected NAME=VALUE"),
        (["dags", "--share", "data=dbt"], "--share='data=dbt': expected TARGET=PATH"),
        (["dags", "--share", "/data=nowhere"], "--share='nowhere': expected a file or directory"),
        (["dags", "--select", " "], "--select=' ': expected a selection"),
        (["dags", "--image", "shop:1=nowhere"], "expected an existing directory of a dbt project"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(place, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(
        "dbt_watch.local.run.command.load", lambda *_: pytest.fail("it has started something")
    )
    assert main(["run", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("dbt-watch run: ")
    assert os.linesep not in told.rstrip()
