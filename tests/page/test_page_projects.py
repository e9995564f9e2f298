"""Which projects a run of a DAG has, and to which of them a task belongs."""

from made_airflow import model


def groups(answer):
    return [(project["group_id"], project["map_index"]) for project in answer["projects"]]


def test_two_projects_of_one_dag_are_two_pages(ask, make):
    shop, bank = make({"raw": ()}), make({"accounts": ()}, group="outer.bank")
    shop.begin()
    bank.begin()
    assert groups(ask("projects")) == [("build", -1), ("outer.bank", -1)]
    answer = ask("projects", task_id="outer.bank.accounts")
    assert answer["selected"] == {"group_id": "outer.bank", "map_index": -1, "node": model("accounts")}
    record = ask("record", project="outer.bank")["record"]
    assert [node["unique_id"] for node in record["nodes"]] == [model("accounts")]


def test_each_instance_of_a_mapped_project_is_one(ask, make):
    for index in (0, 1):
        project = make({f"raw_{index}": ()}, map_index=index)
        project.begin()
    answer = ask("projects", task_id="build.raw_1", map_index=1)
    assert groups(answer) == [("build", 0), ("build", 1)]
    assert [project["label"] for project in answer["projects"]] == ["build [0]", "build [1]"]
    assert answer["selected"]["node"] == model("raw_1")
    record = ask("record", project="build", map_index=0)["record"]
    assert [node["unique_id"] for node in record["nodes"]] == [model("raw_0")]


def test_a_producer_belongs_to_its_project_and_to_no_node(ask, shop):
    shop.begin()
    selected = ask("projects", task_id="build.dbt_build")["selected"]
    assert selected == {"group_id": "build", "map_index": -1, "node": None}


def test_a_project_of_isolated_nodes_alone_is_known_by_what_their_tasks_say(ask, shop, airflow):
    airflow.task_rows.clear()
    airflow.values.clear()
    airflow.set_task("build.raw", "running", "DbtKubernetesPodOperator")
    assert groups(ask("projects")) == []
    shop.attempt = 1
    shop.producer = "build.raw"
    shop.phase("pod")
    assert groups(ask("projects")) == [("build", -1)]


def test_a_dag_without_dbt_has_no_project(ask, airflow):
    airflow.set_task("load", "success", "PythonOperator")
    airflow.set_task("other.run", "success", "DbtCloudRunJobOperator")
    answer = ask("projects", task_id="load")
    assert answer["projects"] == []
    assert answer["selected"] is None
    assert ask("record", 404) == {"detail": "this run has no dbt project"}
