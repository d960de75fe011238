"""Expressions: truth is the arithmetic of Python and NumPy; what is no arithmetic is refused, and costs nothing."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamslot.errors import BadParam
from beamslot.flowgraph.expressions import CONSTANTS, FUNCTIONS, evaluate, is_taken, parse

VARIABLES = {"n_y": 64, "n_z": 72, "snr_db": -5.5, "codebook": "dft", "levels": [1, 2]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n_y * 72", 64 * 72),
        ("-n_y + +n_z", 8),
        ("n_z / n_y", 72 / 64),
        ("n_z // 7 % 4", 2),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("(1 + 2) * 3", 9),
        ("10 ** (snr_db / 10)", 10 ** (-0.55)),
        ("28e9", 28e9),
        (".5 + 1e-3", 0.501),
        ("1_000", 1000),
        ("0x1F", 31),
        ("  n_y\n  * 2 ", 128),
        ("2 * pi", 2 * math.pi),
        ("-inf", -math.inf),
        ("max(n_y, n_z, 3)", 72),
        ("min(2, 1.5)", 1.5),
        ("2 ** 255", 2**255),
        ("2 ** -2", 0.25),
        ("inf - 1", math.inf),
    ],
)
def test_arithmetic_is_that_of_python(text, value):
    result = evaluate(text, VARIABLES)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("min", "max")])
def test_functions_are_those_of_numpy(name):
    truth = {"round": np.round}.get(name) or getattr(np, name)
    for argument in (0.3, 1.0, 2.5, 7):
        assert evaluate(f"{name}({argument})") == pytest.approx(truth(argument), rel=1e-14)


@given(st.floats(-1e6, 1e6), st.integers(-1000, 1000), st.sampled_from(["+", "-", "*"]))
def test_any_two_numbers_give_what_python_gives(left, right, sign):
    truth = {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert evaluate(f"{left!r} {sign} x", {"x": right}) == truth


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("n_y * n_zz", "no variable is called 'n_zz' (character 7); did you mean 'n_z'?"),
        (
            "zebra",
            "no variable is called 'zebra' (character 1); there is n_y, n_z, snr_db, codebook, levels, pi, e, inf",
        ),
        ("2 * codebook", "the variable 'codebook' (character 5) is 'dft', no number"),
        ("levels", "the variable 'levels' (character 1) is [1, 2], no number"),
        ("1 + sqr(3)", "no function is called 'sqr' (character 5); did you mean 'sqrt'?"),
        ("2 * sqrt", "the function 'sqrt' (character 5) has no brackets; wanted sqrt(...)"),
        ("sqrt(1, 2)", "sqrt(1, 2) (character 1) gives sqrt 2 values; wanted one value"),
        ("max(1)", "max(1) (character 1) gives max 1 values; wanted two or more values"),
        ("1 / (n_y - 64)", "1 / (n_y - 64) (character 1) divides by zero"),
        ("0 ** -1", "0 ** (-1) (character 1) divides by zero"),
        ("1 + sqrt(-4)", "sqrt(-4) (character 5) is not defined at -4"),
        ("log(0)", "log(0) (character 1) is not defined at 0"),
        ("(-8) ** 0.5", "(-8) ** 0.5 (character 1) is no real number"),
        ("inf - inf", "inf - inf (character 1) is no real number"),
        ("1e999", "1e309 (character 1) is too large a number"),
        ("exp(1000)", "exp(1000) (character 1) is too large a number"),
        ("1e308 * 10", "1e+308 * 10 (character 1) is too large a number"),
        ("9 ** 9 ** 9", "9 ** 9 ** 9 (character 1) is too large a number"),
        ("2 ** 256", "2 ** 256 (character 1) is too large a number"),
        ("floor(1e300)", "floor(1e+300) (character 1) is too large a number"),
        ("9" * 100, f"{'9' * 57}... (character 1) is too large a number"),
        ("1 + " * 99 + "1", "397 characters are too long for an expression; wanted at most 256"),
        ("+".join("1" * 100), "nests deeper than 64"),
        ("-" * 100 + "1", "nests deeper than 64"),
    ],
)
def test_what_has_no_value_is_refused_with_its_reason_and_character(text, problem):
    with pytest.raises(BadParam) as caught:
        evaluate(text, VARIABLES)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("__import__('os').system('id')", '"\'" (character 12) has no place'),
        ("n_y.bit_length()", "n_y.bit_length() (character 1) has no place"),
        ("n_y.real", "n_y.real (character 1) has no place"),
        ("2 + [1]", "'[' (character 5) has no place"),
        ("1, 2", "(1, 2) (character 1) has no place"),
        ("True", "True (character 1) has no place"),
        ("3j", "3j (character 1) has no place"),
        ("not n_y", "not n_y (character 1) has no place"),
        ("n_y and n_z", "n_y and n_z (character 1) has no place"),
        ("n_y if n_y else 1", "n_y if n_y else 1 (character 1) has no place"),
        ("1 < 2", "'<' (character 3) has no place"),
        ("1 if 1else 2", "1 if 1 else 2 (character 1) has no place"),
        ("sqrt(1)(2)", "sqrt(1)(2) (character 1) has no place"),
        ("max(*levels, 1)", "*levels (character 5) has no place"),
        ("x := 1", "':' (character 3) has no place"),
        ("lambda", "is no expression (see character "),
        ("n_y *", "is no expression (see character "),
        ("1) + (2", "is no expression (see character "),
        ("1 2", "is no expression (see character "),
        ("", "is no expression"),
        ("(" * 250, "is no expression"),
        ("ｎ_y", "'ｎ' (character 1) has no place"),
        ("1 + \x00", "'\\x00' (character 5) has no place"),
    ],
)
def test_what_is_no_arithmetic_is_refused_and_not_run(text, start):
    with pytest.raises(BadParam) as caught:
        evaluate(text, VARIABLES)
    assert str(caught.value).startswith(start)


def test_hostile_expressions_cost_milliseconds():
    hostile = ["9**9**9**9", "2**10**10", "-(9**99)**99", "(" * 256, "2**2**2**2**2**2", "1" * 256]
    begin = time.process_time()
    for text in hostile:
        with pytest.raises(BadParam):
            evaluate(text)
    assert time.process_time() - begin < 1.0


@given(st.text(alphabet="n_yz0123456789.e+-*/%(), sqrtminax[]'\"", max_size=40))
def test_any_text_is_worked_out_or_refused(text):
    try:
        value = evaluate(text, VARIABLES)
    except BadParam:
        return
    assert type(value) in (int, float)
    assert not math.isnan(value)


def test_an_expression_names_its_variables_once_in_the_order_written():
    assert parse("n_z + sqrt(n_y) * n_z / pi").names == ("n_z", "n_y")


def test_no_variable_can_take_the_name_of_what_means_something():
    assert all(is_taken(name) for name in [*CONSTANTS, *FUNCTIONS, "lambda", "if"])
    assert not any(is_taken(name) for name in ("n_y", "wavelength", "pi_2"))
