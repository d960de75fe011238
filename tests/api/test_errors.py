"""The tree of errors as drawn, and every text that an error builds itself."""

import inspect

import pytest

from beamslot import errors

CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
}


def drawn_tree():
    """Return {class: parent} and {class: meaning} as the docstring draws them, four columns a level."""
    parents, meanings, above = {}, {}, {}
    for line in (errors.__doc__ or "").splitlines():
        name, _, meaning = line.lstrip("│├└─ ").partition(" ")
        if name in CLASSES:
            level = (len(line) - len(line.lstrip("│├└─ "))) // 4
            above[level] = name
            parents[name] = above[level - 1] if level else "Exception"
            meanings[name] = meaning.strip()
    return parents, meanings


def test_the_tree_in_the_docstring_is_the_real_one():
    parents, _ = drawn_tree()
    assert parents == {name: cls.__base__.__name__ for name, cls in CLASSES.items()}
    assert {"BeamslotError", "NotConverged"} <= set(parents)


def test_every_error_is_explained_in_the_tree_and_in_its_own_sentence():
    _, meanings = drawn_tree()
    assert [name for name, meaning in meanings.items() if not meaning] == ["BeamslotError"]
    assert all(cls.__doc__ and cls.__doc__.split("\n")[0].endswith(".") for cls in CLASSES.values())


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"BlockFailed"}))
def test_an_error_says_what_it_was_told_and_is_caught_as_its_ancestors(name):
    with pytest.raises(errors.BeamslotError) as caught:
        raise CLASSES[name]("gain: 7 came, 0..1 wanted")
    assert str(caught.value) == "gain: 7 came, 0..1 wanted"
    assert type(caught.value) is CLASSES[name]
    assert set(CLASSES[name].__mro__) >= {errors.BeamslotError, Exception}


@pytest.mark.parametrize("name", ["FlowgraphError", "UnknownBlock", "UnknownPort", "PortMismatch", "BadParam"])
def test_a_flowgraph_error_carries_every_problem_on_a_line_of_its_own(name):
    typed = errors.BadParam("upa.gain: -1 came, at least 0 wanted")
    error = CLASSES[name]("noise: no such block", typed)
    assert str(error) == "noise: no such block\nupa.gain: -1 came, at least 0 wanted"
    assert error.causes == [typed]
    assert CLASSES[name]("noise: no such block").causes == []


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        (None, "estimator (seed 5): ZeroDivisionError: division by zero"),
        (range(7, 8), "estimator at slot 7 (seed 5): ZeroDivisionError: division by zero"),
        (range(40), "estimator at slots 0..39 (seed 5): ZeroDivisionError: division by zero"),
    ],
)
def test_a_failed_block_says_where_and_with_which_seed(slots, text):
    error = errors.BlockFailed("estimator", slots, 5, "ZeroDivisionError: division by zero")
    assert str(error) == text
    assert (error.block, error.slots, error.seed) == ("estimator", slots, 5)
    assert error.cause == "ZeroDivisionError: division by zero"


def test_a_failed_run_carries_the_report_so_far():
    error = errors.RunFailed("estimator stopped at slot 3", {"slots": 3})
    assert str(error) == "estimator stopped at slot 3"
    assert error.report == {"slots": 3}
    assert errors.RunFailed("nothing ran").report == {}


@pytest.mark.parametrize(
    ("slots", "text"), [(range(7, 8), "slot 7"), (range(2), "slots 0..1"), (range(5, 9), "slots 5..8")]
)
def test_slots_read_as_people_write_them(slots, text):
    assert errors.describe_slots(slots) == text
