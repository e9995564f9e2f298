"""Into which parts a project is split, and that these are as few as its graph allows."""

import itertools
from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.plan import plan_tasks
from dbt_watch.rendering.split import Barrier, split


def node(unique_id, *parents, **values):
    kind, package, name = unique_id.split(".")
    values = {"fqn": (package, name), "path": f"models/{name}.sql", **values}
    return Node(unique_id, name, kind, package, depends_on=parents, **values)


def models(**parents):
    """Return a graph of models, each with the names of its parents."""
    nodes = [
        node(f"model.shop.{name}", *(f"model.shop.{p}" for p in before)) for name, before in parents.items()
    ]
    return Graph(Facts("1.11", "shop"), nodes)


def ids(*names):
    return [f"model.shop.{name}" for name in names]


def parts_of(graph, isolated=(), barriers=(), tests="after_each"):
    plan = plan_tasks(graph, set(graph.nodes), tests)
    return {part.task_id: part for part in split(graph, set(graph.nodes), plan, isolated, barriers)}


def named(part):
    return {unique_id.rpartition(".")[2] for unique_id in part.nodes}


def barrier(task_id, *, after=(), before):
    return Barrier(task_id, frozenset(ids(*after)), frozenset(ids(*before)))


def test_a_project_without_isolated_nodes_is_one_part():
    graph = models(a=[], b=["a"])
    (part,) = parts_of(graph).values()
    assert (part.task_id, part.nodes) == ("dbt_build", set(graph.nodes))


def test_what_lies_behind_an_isolated_node_is_built_by_a_second_producer():
    parts = parts_of(models(a=[], heavy=["a"], b=["heavy"], c=["a"]), ids("heavy"))
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"a", "c"}, "dbt_build_2": {"b"}, "heavy": {"heavy"},
    }  # fmt: skip
    assert parts["dbt_build"].waits_for == {}
    assert parts["heavy"].waits_for == {"a": ids("heavy")}
    assert parts["dbt_build_2"].waits_for == {"heavy": ids("b")}


def test_one_producer_is_enough_behind_isolated_nodes_that_come_first():
    parts = parts_of(models(heavy=[], a=["heavy"], b=[]), ids("heavy"))
    assert named(parts["dbt_build"]) == {"a", "b"}


def test_isolated_nodes_in_a_row_need_no_producer_between_them():
    parts = parts_of(models(a=[], x=["a"], y=["x"], b=["y"]), ids("x", "y"))
    assert set(parts) == {"dbt_build", "dbt_build_2", "x", "y"}
    assert parts["y"].waits_for == {"x": ids("y")}


def test_a_pod_per_node_needs_no_producer():
    graph = models(a=[], b=["a"])
    assert set(parts_of(graph, set(graph.nodes))) == {"a", "b"}


def test_the_tests_of_an_isolated_node_run_in_its_pod_and_hold_back_what_is_behind_it():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b", "model.shop.a"),
            node("test.shop.unique_a", "model.shop.a"),
            node("unit_test.shop.a_adds", "model.shop.a"),
        ],
    )
    parts = parts_of(graph, ["model.shop.a"])
    assert named(parts["a"]) == {"a", "unique_a", "a_adds"}
    assert parts["dbt_build"].waits_for == {"a.test": ["model.shop.b"]}


def test_tests_of_all_have_a_producer_to_themselves_when_the_project_is_split():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b", "model.shop.a"),
            node("test.shop.unique_a", "model.shop.a"),
        ],
    )
    parts = parts_of(graph, ["model.shop.a"], tests="after_all")
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"b"}, "dbt_build_2": {"unique_a"}, "a": {"a"},
    }  # fmt: skip
    assert parts["dbt_build_2"].waits_for == {"a": ["test.shop.unique_a"]}


def test_a_test_of_several_nodes_holds_back_a_later_pod_that_depends_on_all_of_them():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b"),
            node("test.shop.same_a_b", "model.shop.a", "model.shop.b"),
            node("model.shop.heavy", "model.shop.a", "model.shop.b"),
            node("model.shop.other", "model.shop.a"),
        ],
    )
    parts = parts_of(graph, ["model.shop.heavy", "model.shop.other"])
    test_task = next(task_id for task_id in parts["heavy"].waits_for if "same" in task_id)
    assert parts["heavy"].waits_for == {"a": ids("heavy"), "b": ids("heavy"), test_task: ids("heavy")}
    assert parts["other"].waits_for == {"a": ids("other")}


@pytest.mark.parametrize("tested", [*itertools.permutations("abc", 2)], ids="".join)
def test_a_test_of_several_nodes_holds_back_nothing_that_depends_on_one_of_them_only(tested):
    behind = [node(f"model.shop.behind_{name}", f"model.shop.{name}") for name in "abc"]
    graph = Graph(
        Facts("1.11", "shop"),
        [*(node(f"model.shop.{name}") for name in "abc"), node("test.shop.same", *ids(*tested)), *behind],
    )
    parts = parts_of(graph, [item.unique_id for item in behind])
    for name in "abc":
        assert parts[f"behind_{name}"].waits_for == {name: ids(f"behind_{name}")}


def test_a_test_of_several_nodes_holds_back_the_first_that_depend_on_all_and_those_hold_back_the_rest():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b"),
            node("test.shop.same", "model.shop.a", "model.shop.b"),
            node("model.shop.c", "model.shop.a"),
            node("model.shop.d", "model.shop.b", "model.shop.c"),
            node("model.shop.e", "model.shop.d"),
        ],
    )
    parts = parts_of(graph, ids("c", "d", "e"))
    (test_task,) = parts["d"].waits_for.keys() - {"b", "c"}
    assert parts["c"].waits_for == {"a": ids("c")}
    assert parts["d"].waits_for[test_task] == ids("d")
    assert parts["e"].waits_for == {"d": ids("e")}


def test_a_test_of_several_nodes_holds_back_what_needs_them_through_ephemeral_ones_and_no_test():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b"),
            node("test.shop.same", *ids("a", "b")),
            node("model.shop.both", *ids("a", "b"), materialized="ephemeral"),
            node("test.shop.of_both", *ids("both")),
            node("model.shop.left", *ids("both"), materialized="ephemeral"),
            node("model.shop.right", *ids("both"), materialized="ephemeral"),
            node("model.shop.far", *ids("left", "right")),
            node("model.shop.near", *ids("both")),
            node("model.shop.beside", *ids("both")),
            node("model.shop.further", *ids("far")),
            node("model.shop.for_nobody", *ids("both"), materialized="ephemeral"),
        ],
    )
    parts = parts_of(graph, ids("near", "beside", "far", "further"))
    for name in ("near", "beside", "far"):
        assert parts[name].waits_for == dict.fromkeys(("a", "b", "test.of_both", "test.same"), ids(name))
    assert parts["further"].waits_for == {"far": ids("further")}
    assert named(parts["dbt_build"]) == {
        "a", "b", "same", "both", "of_both", "left", "right", "for_nobody",
    }  # fmt: skip


def test_each_test_of_several_nodes_holds_back_what_is_behind_it():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            *(node(f"model.shop.{name}") for name in "abc"),
            node("test.shop.same_ab", *ids("a", "b")),
            node("test.shop.same_bc", *ids("b", "c")),
            node("model.shop.ab", *ids("a", "b")),
            node("model.shop.bc", *ids("b", "c")),
        ],
    )
    parts = parts_of(graph, ids("ab", "bc"))
    assert parts["ab"].waits_for == dict.fromkeys(("a", "b", "test.same_ab"), ids("ab"))
    assert parts["bc"].waits_for == dict.fromkeys(("b", "c", "test.same_bc"), ids("bc"))


def test_behind_a_pod_that_waits_for_a_test_of_a_later_producer_stands_another_producer():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.heavy", *ids("a")),
            node("test.shop.same", *ids("a", "heavy")),
            node("model.shop.x", *ids("a", "heavy")),
            node("model.shop.y", *ids("x")),
        ],
    )
    parts = parts_of(graph, ids("heavy", "x"))
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"a"}, "dbt_build_2": {"same"}, "dbt_build_3": {"y"}, "heavy": {"heavy"}, "x": {"x"},
    }  # fmt: skip


def test_what_depends_on_an_isolated_node_through_an_ephemeral_one_waits_for_it():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.heavy"),
            node("model.shop.between", "model.shop.heavy", materialized="ephemeral"),
            node("model.shop.b", "model.shop.between"),
        ],
    )
    assert parts_of(graph, ["model.shop.heavy"])["dbt_build"].waits_for == {"heavy": ids("b")}


def test_a_task_before_a_node_splits_the_project_there():
    parts = parts_of(
        models(a=[], scores=["a"], b=["scores"], c=["a"]),
        barriers=[barrier("fit", after=["a"], before=["scores"])],
    )
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"a", "c"}, "dbt_build_2": {"scores", "b"},
    }  # fmt: skip
    assert parts["dbt_build_2"].barriers == {"fit": ids("scores")}
    assert (parts["dbt_build"].behind, parts["dbt_build_2"].behind) == (frozenset(), {"fit"})


def test_a_task_that_waits_for_nothing_of_the_project_needs_no_second_producer():
    (part,) = parts_of(models(a=[], b=["a"]), barriers=[barrier("land", before=["b"])]).values()
    assert part.barriers == {"land": ids("b")}


def test_an_ephemeral_model_goes_with_the_producer_that_builds_what_is_behind_it():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.before", "model.shop.a", materialized="ephemeral"),
            node("model.shop.heavy", "model.shop.before"),
            node("model.shop.between", "model.shop.heavy", materialized="ephemeral"),
            node("model.shop.b", "model.shop.between"),
        ],
    )
    parts = parts_of(graph, ["model.shop.heavy"])
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"a", "before"}, "dbt_build_2": {"between", "b"}, "heavy": {"heavy"},
    }  # fmt: skip


def test_what_dbt_does_not_run_needs_no_producer_of_its_own():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.heavy", "model.shop.a"),
            node("exposure.shop.board", "model.shop.heavy"),
        ],
    )
    parts = parts_of(graph, ["model.shop.heavy"])
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"a", "board"}, "heavy": {"heavy"},
    }  # fmt: skip
    parts = parts_of(graph, ids("a", "heavy"))
    assert {task_id: named(part) for task_id, part in parts.items()} == {"a": {"a"}, "heavy": {"heavy"}}


def test_a_part_knows_all_tasks_in_the_middle_that_have_ended_when_it_begins():
    parts = parts_of(
        models(a=[], heavy=["a"], b=["heavy"], c=["b"], apart=["a"], last=["c"]),
        ids("heavy", "apart", "last"),
        barriers=[
            barrier("land", before=["a"]),
            barrier("fit", after=["a"], before=["heavy"]),
            barrier("check", after=["b"], before=["c"]),
        ],
    )
    assert {task_id: (named(part), part.behind) for task_id, part in parts.items()} == {
        "dbt_build": ({"a"}, {"land"}),
        "dbt_build_2": ({"b"}, {"land", "fit"}),
        "dbt_build_3": ({"c"}, {"land", "fit", "check"}),
        "heavy": ({"heavy"}, {"land", "fit"}),
        "apart": ({"apart"}, {"land"}),
        "last": ({"last"}, {"land", "fit", "check"}),
    }


@pytest.mark.parametrize("held", ["b", "c", "d"])
def test_a_task_that_has_ended_before_one_node_of_a_part_has_ended_before_the_part(held):
    parts = parts_of(
        models(a=[], heavy=["a"], b=["heavy"], c=["heavy"], d=["heavy"]),
        ids("heavy"),
        barriers=[barrier("fit", after=["a"], before=[held])],
    )
    assert (named(parts["dbt_build_2"]), parts["dbt_build_2"].behind) == ({"b", "c", "d"}, {"fit"})


def test_a_task_behind_others_in_the_middle_has_these_behind_it_too():
    parts = parts_of(
        models(a=[], b=[], c=[]),
        barriers=[
            barrier("fit", after=["a"], before=["b"]),
            barrier("check", after=["b"], before=["c"]),
        ],
    )
    assert (named(parts["dbt_build_3"]), parts["dbt_build_3"].behind) == ({"c"}, {"fit", "check"})


def test_a_part_says_whether_it_is_that_of_an_isolated_node():
    parts = parts_of(models(a=[], heavy=["a"], b=["heavy"]), ids("heavy"))
    assert {task_id: part.home for task_id, part in parts.items()} == {
        "dbt_build": None, "dbt_build_2": None, "heavy": "model.shop.heavy",
    }  # fmt: skip


def test_tests_of_all_have_a_producer_also_where_every_node_is_isolated():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("test.shop.unique_a", *ids("a")),
            node("exposure.shop.board", *ids("a")),
        ],
    )
    parts = parts_of(graph, ids("a"), tests="after_all")
    assert {task_id: named(part) for task_id, part in parts.items()} == {
        "dbt_build": {"unique_a", "board"}, "a": {"a"},
    }  # fmt: skip


def test_a_test_of_several_nodes_waits_for_the_nodes_and_not_for_their_own_tests():
    graph = Graph(
        Facts("1.11", "shop"),
        [
            node("model.shop.a"),
            node("model.shop.b"),
            node("test.shop.unique_a", *ids("a")),
            node("test.shop.same", *ids("a", "b")),
        ],
    )
    assert parts_of(graph, ids("a"))["dbt_build"].waits_for == {"a": ["test.shop.same"]}


def test_only_what_waits_for_nothing_of_the_project_comes_first():
    parts = parts_of(
        models(a=[], heavy=["a"], b=["heavy"]), ids("heavy"), barriers=[barrier("land", before=["a"])]
    )
    assert {task_id: part.is_first for task_id, part in parts.items()} == {
        "dbt_build": True, "heavy": False, "dbt_build_2": False,
    }  # fmt: skip


def test_of_two_tasks_that_wait_for_each_other_through_nodes_one_is_named():
    with pytest.raises(ArgumentError) as caught:
        parts_of(
            models(a=[], b=[]),
            barriers=[barrier("fit", after=["b"], before=["a"]), barrier("check", after=["a"], before=["b"])],
        )
    assert caught.value.argument == "dependency"
    held, awaited = {"fit": ("a", "b"), "check": ("b", "a")}[caught.value.value.partition(" >> ")[0]]
    task_id = caught.value.value.partition(" >> ")[0]
    assert caught.value.value == f"{task_id} >> {held}"
    assert caught.value.expected == (
        f"no cycle: {task_id} waits for {awaited}, which dbt builds after {held}"
    )


def test_a_task_before_a_node_that_it_waits_for_is_refused_with_all_three_names():
    with pytest.raises(
        ArgumentError, match=r"fit >> scores.*fit waits for later, which dbt builds after scores"
    ):
        parts_of(
            models(scores=[], later=["scores"]), barriers=[barrier("fit", after=["later"], before=["scores"])]
        )


def test_a_task_before_the_very_node_that_it_waits_for_is_refused():
    with pytest.raises(ArgumentError, match="fit waits for scores"):
        parts_of(models(scores=[]), barriers=[barrier("fit", after=["scores"], before=["scores"])])


# Random projects.


@st.composite
def projects(draw):
    """Draw a graph, the nodes of it that are isolated, and tasks in the middle of it."""
    names = [f"n{number:02}" for number in range(draw(st.integers(1, 12)))]
    nodes = []
    for number, name in enumerate(names):
        kind = draw(st.sampled_from(["model"] * 5 + ["test", "seed"])) if number else "model"
        possible = [item.unique_id for item in nodes if item.resource_type != "test"]
        parents = draw(st.lists(st.sampled_from(possible), unique=True, max_size=3)) if possible else []
        if kind == "seed":
            parents = []
        if kind == "test" and not parents:
            parents = possible[:1]
        is_ephemeral = kind == "model" and draw(st.integers(0, 5)) == 0
        nodes.append(
            node(f"{kind}.shop.{name}", *parents, materialized="ephemeral" if is_ephemeral else "view")
        )
    graph = Graph(Facts("1.11", "shop"), nodes)
    selected = {item.unique_id for item in nodes if draw(st.integers(0, 7))} or set(graph.nodes)
    plan = plan_tasks(graph, selected, draw(st.sampled_from(["after_each", "build", "after_all", "none"])))
    selected = {key for key in selected if key in plan.node_tasks or graph.nodes[key].resource_type != "test"}
    alone = sorted({task.home for task in plan.tasks.values() if task.home})
    isolated = {key for key in alone if draw(st.integers(0, 2)) == 0}
    barriers = []
    ancestors = ancestors_in(graph)
    for number in range(draw(st.integers(0, 2)) if alone else 0):
        held = draw(st.sampled_from(alone))
        possible = sorted(key for key in plan.gates if held not in ancestors[key] and key != held)
        after = draw(st.lists(st.sampled_from(possible), unique=True, max_size=2)) if possible else []
        barriers.append(Barrier(f"task{number}", frozenset(after), frozenset({held})))
    return graph, selected, plan, isolated, barriers


def ancestors_in(graph):
    found = {}
    for key in TopologicalSorter(graph.parent_map).static_order():
        parents = graph.parents(key)
        found[key] = set(parents).union(*(found[parent] for parent in parents))
    return found


def edges_of(graph, plan, barriers):
    """Return all that must come before what: of the graph, of dbt's tests, and of the tasks in the middle."""
    edges = {(parent, key) for key in graph.nodes for parent in graph.parents(key)}
    ancestors = ancestors_in(graph)
    tests = [key for key in plan.node_tasks if graph.nodes[key].resource_type == "test"]
    built = [key for key in plan.node_tasks if key not in tests]
    for test, key in itertools.product(tests, built):
        is_of_all = plan.tasks[plan.node_tasks[test]].home is None
        parents = graph.parents(test)
        if not is_of_all and parents and ancestors[key] >= set(parents):
            edges.add((test, key))
    for item in barriers:
        edges |= {(key, item.task_id) for key in item.after} | {(item.task_id, key) for key in item.before}
    return edges


def without(edges, passed):
    """Return the edges between all nodes but some, which are passed through: they are compiled into what needs them."""
    for key in passed:
        first = [start for start, end in edges if end == key]
        second = [end for start, end in edges if start == key]
        edges = {edge for edge in edges if key not in edge} | set(itertools.product(first, second))
    return edges


def has_cycle(edges, names):
    """Return whether the edges lead in a circle when some nodes have become one."""
    before = {}
    for edge in edges:
        first, second = (names.get(key, key) for key in edge)
        if first != second:
            before.setdefault(second, set()).add(first)
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        return True
    return False


def is_orderly(edges):
    return not has_cycle(edges, {})


@settings(max_examples=1000, deadline=None)
@given(projects())
def test_every_edge_is_respected_and_no_producer_can_be_spared(drawn):
    graph, selected, plan, isolated, barriers = drawn
    edges = edges_of(graph, plan, barriers)
    if not is_orderly(edges):
        with pytest.raises(ArgumentError, match="expected no cycle"):
            split(graph, selected, plan, isolated, barriers)
        return
    parts = split(graph, selected, plan, isolated, barriers)
    where = {key: part.task_id for part in parts for key in part.nodes}

    # None forgotten, no node twice.
    assert set(plan.node_tasks) <= set(where)
    assert sum(len(part.nodes) for part in parts) == len(where)
    for part in parts:
        if part.home is not None:
            task = plan.node_tasks[part.home]
            homes = {plan.tasks[plan.node_tasks[key]].home for key in part.nodes}
            assert (part.task_id, homes) == (task, {part.home})
    assert {part.home for part in parts if part.home} == isolated

    placed = {key: task_id for key, task_id in where.items() if key in plan.node_tasks}
    edges = without(edges, set(graph.nodes) - set(placed))
    assert not has_cycle(edges, placed)
    producers = [part.task_id for part in parts if part.home is None]
    for first, second in itertools.combinations(producers, 2):
        merged = {key: first if task_id == second else task_id for key, task_id in placed.items()}
        # Tests of all nodes come at the end, in a pod of their own.
        is_of_tests = all(
            plan.tasks[plan.node_tasks[key]].home is None for key in placed if placed[key] == second
        )
        assert has_cycle(edges, merged) or is_of_tests
    if isolated or barriers:
        for part in parts:
            assert_waits(part, graph, plan, placed, barriers)


def assert_waits(part, graph, plan, placed, barriers):
    """See to it that a part waits for all that its nodes need from elsewhere, and for no more than that."""
    for key in part.nodes & set(plan.node_tasks):
        is_test = graph.nodes[key].resource_type == "test"
        for parent in plan.parents[key]:
            task = plan.node_tasks[parent] if is_test else plan.gates[parent]
            assert (placed[parent] == part.task_id) != (key in part.waits_for.get(task, ()))
    for item in barriers:
        assert part.barriers.get(item.task_id, []) == sorted(item.before & part.nodes)


def test_the_ids_of_producers_are_no_node_s():
    graph = models(dbt_build=[], dbt_build_2=["dbt_build"])
    assert not {"dbt_build", "dbt_build_2"} & set(plan_tasks(graph, set(graph.nodes)).tasks)
