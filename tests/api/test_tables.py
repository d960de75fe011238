import io

import pytest
from rich.console import Console

from beamslot import tables

REPORT = {
    "graph": "demo",
    "slots": 2000,
    "seconds": 1.712,
    "slots_per_s": 1168.2,
    "late_slots": 3,
    "edges": [
        {
            "edge": "source.field > combiner.field",
            "policy": "block",
            "offered": 2000,
            "acknowledged": 1900,
            "dropped": {"done": 60, "stopped": 0},
            "unmatched": 1,
            "in_flight": 39,
            "redelivered": 7,
        }
    ],
    "blocks": {
        "source": {"slots": 2000, "p50_us": 83.4, "p95_us": 1520.0, "p99_us": 2.5e6, "restarts": 0},
        "idle": {"slots": 0, "p50_us": None, "p95_us": None, "p99_us": None, "restarts": 0},
    },
    "end_to_end": {"p50_us": 310.0, "p95_us": 400.0, "p99_us": 500.0},
    "sinks": {
        "nmse": {
            "gw": {"nmse_db": -21.257, "ci95_db": [-21.5, -21.01], "draws": 2000},
            "ls": {"nmse_db": None, "ci95_db": None, "draws": 0},
            "noisy": {"nmse_db": 0.5, "ci95_db": [None, 1.5], "draws": 3},
            "crb": {"nmse_db": -24.0, "ci95_db": [-24.1, -23.9], "draws": 2000},
            "reference": "truth",
        },
        "file": {"written": 12},
    },
    "ok": True,
    "exit_code": 0,
    "problems": [],
    "logs": "logs/demo",
}


def text_of(renderable, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def row_of(text, name):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


def test_the_headline_says_how_far_how_fast_and_how_late():
    assert tables.headline(REPORT, 2000) == "demo  done  2,000 of 2,000 slots  1.17 k/s  3 late  1.7 s"
    assert tables.headline({**REPORT, "state": "running"}) == "demo  running  2,000 slots  1.17 k/s  3 late  1.7 s"
    assert "failed" in tables.headline({**REPORT, "ok": False})
    assert "interrupted" in tables.headline({**REPORT, "ok": False, "exit_code": 130})


def test_the_headline_of_a_run_that_never_began_has_only_zeros():
    assert tables.headline({"ok": False, "problems": ["no"]}) == "failed  0 slots  -  0 late  0.0 s"


@pytest.mark.parametrize(
    ("microseconds", "said"), [(None, "-"), (0.4, "0.4 us"), (83.4, "83.4 us"), (1520.0, "1.52 ms"), (2.5e6, "2.5 s")]
)
def test_a_time_span_has_the_unit_that_suits_it(microseconds, said):
    assert tables.span(microseconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, "-"), (12345, "12,345"), (1.005, "1.00"), ("x", "x"), (True, "True")]
)
def test_a_number_is_written_for_people(value, said):
    assert tables.number(value) == said


@pytest.mark.parametrize(("value", "said"), [(None, "-"), (999.0, "999 /s"), (1000.0, "1 k/s"), (2.5, "2.5 /s")])
def test_a_rate_has_the_unit_that_suits_it(value, said):
    assert tables.rate(value) == said


def test_the_closing_tables_hold_latency_per_block_and_end_to_end():
    text = text_of(tables.closing(REPORT, 2000))
    assert row_of(text, "source") == ["source", "2,000", "83.4", "us", "1.52", "ms", "2.5", "s"]
    assert row_of(text, "idle") == ["idle", "0", "-", "-", "-"]
    assert row_of(text, "end")[3:9] == ["310", "us", "400", "us", "500", "us"]
    assert "logs: logs/demo" in text


def test_the_latencies_are_said_to_be_per_call_and_explained_once():
    text = text_of(tables.closing(REPORT))
    assert text.count("p50 per call") == 1
    assert text.count("end to end: from the capture of a slot") == 1


def test_tables_that_say_nothing_are_left_out():
    edge = {"edge": "a > b", "policy": "block", "offered": 0, "acknowledged": 0}
    nothing = {"nmse": {"omp": {"nmse_db": None, "draws": 0}}}
    report = {"blocks": {"a": {"slots": 0, "p50_us": None}}, "end_to_end": {}, "edges": [edge], "sinks": nothing}
    assert tables.sheets(report) == []
    assert "per call" not in text_of(tables.closing(report))


def test_the_account_of_an_edge_names_drops_by_reason_and_what_is_left_unexplained():
    text = text_of(tables.closing(REPORT))
    line = next(line for line in text.splitlines() if line.startswith("source.field >"))
    assert line.split()[3:] == ["block", "2,000", "1,900", "60:", "done", "60", "39", "1", "7", "1"]
    assert tables.unexplained(REPORT["edges"][0]) == 2000 - 1900 - 60 - 39


def test_each_estimator_stands_with_its_interval_beside_the_bound():
    text = text_of(tables.closing(REPORT))
    assert row_of(text, "gw") == ["gw", "-21.26", "-21.50", "..", "-21.01", "2,000", "-24.00"]
    assert row_of(text, "ls") == ["ls", "-", "-", "0", "-24.00"]
    assert row_of(text, "noisy") == ["noisy", "0.50", "-", "..", "1.50", "3", "-24.00"]
    assert row_of(text, "nmse") == ["nmse", "reference", "truth"]
    assert row_of(text, "file") == ["file", "written", "12"]


def test_angles_stand_with_outliers_apart_beside_the_bound():
    one = {
        "rmse_deg": 0.01790,
        "outlier_share": 0.0025,
        "total_rmse_deg": 0.21,
        "right_count_share": 1.0,
        "path_gain_mse": 0.00157,
        "path_angle_mse": None,
        "frames": 400,
    }
    angles = {"fbss": one, "music": {**one, "incomplete": 2}, "crb": {"rmse_deg": 0.0161}}
    text = text_of(tables.closing({"ok": True, "sinks": {"angles": angles}}))
    assert row_of(text, "fbss") == [
        "fbss",
        *["0.0179", "0.0161", "0.25", "0.2100", "100.00", "0.00157", "-", "400", "0"],
    ]
    assert row_of(text, "music")[-2:] == ["400", "2"]
    assert "angles: RMSE over frames without outlier" in text


QUALITY = {
    "nmse_db": -21.07,
    "ci95_db": [-21.36, -20.79],
    "draws": 120,
    "slots": 240,
    "iterations": 4.342,
    "paths": 8.2,
    "converged_share": 0.9917,
    "over_crb_db": 1.763,
    "over_crb_ci95_db": [1.48, 2.046],
    "stated_nmse_db": -21.39,
    "error_to_stated_db": 0.325,
    "error_to_stated_ci95_db": [-0.033, 0.682],
    "coverage": {"0.5": 0.283, "0.9": 0.558, "0.95": 0.7},
    "strongest_found_share": 1.0,
    "strongest_rmse_deg": 0.02119,
    "residual_to_noise_db": 0.105,
    "residual_to_noise_ci95_db": [0.063, 0.147],
    "plausible_share": 0.9167,
    "white_share": 0.95,
    "column_lag": 0.0029,
    "chain_lag": 0.00347,
}
PAIR = {
    "estimate": "omp",
    "reference": "gw",
    "difference_db": 0.779,
    "ci95_db": [0.597, 0.961],
    "by_draw_db": 0.734,
    "by_draw_ci95_db": [0.573, 0.894],
    "better_share": 0.1667,
    "draws": 120,
    "slots": 240,
}
ALARM = {"alarm": 1, "alarms": 2, "since": 834, "level": 0.95, "learning": False, "slots": 1500, "not_finite": 3}


def test_quality_stands_in_four_tables_that_fit_a_narrow_terminal():
    report = {"ok": True, "sinks": {"quality": {"vp_nomp": QUALITY, "crb": {"nmse_db": -22.83}}}}
    text = text_of(tables.closing(report), 80)
    rows = [line.split() for line in text.splitlines() if line.startswith("vp_nomp")]
    assert rows == [
        ["vp_nomp", "-21.07", "-21.36", "..", "-20.79", "120", "-22.83"],
        ["vp_nomp", "1.76", "1.48", "..", "2.05", "-21.39", "0.33", "-0.03", "..", "0.68"],
        ["vp_nomp", "28.30", "55.80", "70.00", "100.00", "0.0212"],
        ["vp_nomp", "0.105", "0.063", "..", "0.147", "91.67", "95.00", "0.0029", "0.0035"],
        ["vp_nomp", "4.34", "8.20", "99.17", "240"],
    ]
    assert "quality: residual over noise [dB]" in text


def test_quality_that_was_not_judged_is_no_table():
    effort = {key: QUALITY[key] for key in ("slots", "draws", "iterations", "paths", "converged_share")}
    shown = [sheet.title for sheet in tables.sheets({"sinks": {"quality": {"omp": {**effort, "not_finite": 2}}}})]
    assert shown == ["quality: effort"]


def test_pairs_stand_with_their_interval_and_the_share_of_draws_in_which_the_one_was_better():
    report = {"ok": True, "sinks": {"compare": {"omp - gw": PAIR, "slots": {"omp": 240, "gw": 240}}}}
    text = text_of(tables.closing(report), 80)
    line = next(line for line in text.splitlines() if line.startswith("omp - gw"))
    assert line.split() == ["omp", "-", "gw", "0.78", "0.60", "..", "0.96", "0.73", "16.67", "120"]
    assert "compare  slots  omp 240, gw 240" in text


@pytest.mark.parametrize(
    ("alarm", "learning", "said"), [(1, False, "above"), (-1, False, "below"), (0, True, "learning")]
)
def test_alarms_of_drift_stand_in_one_table_with_their_state(alarm, learning, said):
    watch = {**ALARM, "alarm": alarm, "learning": learning, "chains": [[1, 2], [7, 0]]}
    other = {**ALARM, "alarm": 0, "since": None, "chains": [[column, 0] for column in range(5)]}
    drift = {"watch": watch, "other": other}
    text = text_of(tables.closing({"ok": True, "sinks": drift}), 80)
    assert row_of(text, "watch") == ["watch", said, "0.95", "2", "834", "1.2", "7.0", "1,500", "3"]
    assert row_of(text, "other") == ["other", "within", "0.95", "2", "-", "0.0", "1.0", "2.0", "and", "2", "1,500", "3"]


def test_a_report_of_a_bad_graph_has_a_headline_and_no_tables():
    report = {"ok": False, "exit_code": 2, "problems": ["demo.yml:3: no"]}
    assert tables.sheets(report) == []
    assert text_of(tables.closing(report)).strip().startswith("failed")


def test_a_column_that_says_nothing_is_left_out():
    edge = {**REPORT["edges"][0], "unmatched": 0, "redelivered": 0, "in_flight": 40}
    heads = tables.edge_sheet({"edges": [edge]}).shown().columns
    assert heads == ["edge", "policy", "offered", "acknowledged", "dropped", "in flight"]
    assert tables.edge_sheet(REPORT).shown().columns[-3:] == ["unmatched", "redelivered", "open"]


def test_restarts_replicas_refusals_and_while_it_runs_the_state_of_blocks_stand_where_there_are_any():
    heads = tables.block_sheet(REPORT).shown().columns
    assert heads == ["block", "slots", "p50 per call", "p95 per call", "p99 per call"]
    trouble = {"cut_short": 4, "restarts": 2, "refused": 1}
    troubled = {"omp": {"slots": 5, **trouble, "replicas": 3, "state": "waiting"}, "nmse": {}}
    shown = tables.block_sheet({"blocks": troubled}).shown()
    assert shown.columns[:4] == ["block", "state", "replicas", "slots"]
    assert shown.columns[-3:] == ["cut short", "restarts", "refused"]
    assert shown.rows == [
        ["omp", "waiting", "3", "5", "-", "-", "-", "4", "2", "1"],
        ["nmse", "", "", "0", "-", "-", "-", "0", "0", "0"],
    ]
    assert "state" not in tables.block_sheet({"blocks": troubled, "exit_code": 0}).shown().columns


def test_the_newest_notes_stand_under_the_closing_tables():
    notes = [f"note {index}" for index in range(tables.NOTES + 1)]
    text = text_of(tables.closing({**REPORT, "notes": notes}))
    assert f"! note {tables.NOTES}" in text
    assert "! note 0" not in text


def test_names_that_look_like_markup_are_shown_as_they_are():
    report = {**REPORT, "graph": "[red]x[/red]", "blocks": {"[b]n[/b]": {"slots": 1}}, "end_to_end": {}}
    text = text_of(tables.closing(report))
    assert "[red]x[/red]" in text
    assert "[b]n[/b]" in text


def test_the_live_tables_show_progress_flow_and_the_newest_notes():
    notes = [f"note {index}" for index in range(tables.NOTES + 3)]
    text = text_of(tables.live({**REPORT, "state": "running", "notes": notes}, 4000))
    assert "2,000 of 4,000 slots" in text
    line = next(line for line in text.splitlines() if line.startswith("source.field >"))
    assert line.split()[3:] == ["39", "60:", "done", "60"]
    assert f"! note {tables.NOTES + 2}" in text
    assert "! note 2\n" not in text


def test_the_live_tables_of_a_run_that_is_only_starting_are_not_an_error():
    assert "starting" in text_of(tables.live({"graph": "demo", "state": "starting", "notes": []}))


def test_numbers_stand_right_and_names_left():
    sheet = tables.Sheet("t", ("name", "value"), [["a", "1"], ["longer", "1000"]])
    lines = text_of(tables.render(sheet)).splitlines()
    assert lines[2].rstrip() == "a           1"
    assert lines[3].rstrip() == "longer   1000"


def test_html_escapes_what_came_from_a_graph():
    text = tables.to_html("<run>", [tables.Sheet("<t>", ("<h>", "n"), [["<script>", "1"]])])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;run&gt;" in text
    assert text.count("<tr>") == 2
