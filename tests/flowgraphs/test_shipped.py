"""The shipped flowgraphs run, lose nothing, and reach what they should."""

from pathlib import Path

import pytest

import beamslot
from beamslot.flowgraph import load

FLOWGRAPHS = Path(__file__).parents[2] / "flowgraphs"


def run(name: str, slots: int, **parameters: object) -> beamslot.RunResult:
    result = beamslot.run(FLOWGRAPHS / name, slots=slots, parameters=parameters)
    assert result.ok
    assert result["exit_code"] == 0
    assert result["slots"] == slots
    for edge in result.edges:
        assert (edge["offered"], edge["acknowledged"], edge["dropped"], edge["in_flight"]) == (slots, slots, {}, 0)
        assert edge["unmatched"] == 0
    return result


def test_hello_runs() -> None:
    judged = run("hello.yml", 100).sinks["nmse"]
    assert judged["omp"]["draws"] == 100
    assert judged["omp"]["nmse_db"] < -15


def test_the_main_job_gives_the_estimators_their_order() -> None:
    judged = run("demo.yml", 100).sinks["nmse"]
    assert judged["gw_sc_vbi"]["draws"] == 100
    assert judged["gw_sc_vbi"]["nmse_db"] <= -15.0
    assert judged["oracle"]["nmse_db"] < judged["crb"]["nmse_db"] < judged["vp_nomp"]["nmse_db"]
    assert judged["vp_nomp"]["nmse_db"] < judged["gw_sc_vbi"]["nmse_db"]
    assert judged["gw_sc_vbi"]["nmse_db"] < judged["omp"]["nmse_db"]


def test_narrow_beams_in_spread_groups_beat_contiguous_ones_and_random_beams() -> None:
    judged = run("beams.yml", 100).sinks["nmse"]
    assert judged["omp_interleaved"]["nmse_db"] < judged["omp_contiguous"]["nmse_db"] - 2
    assert judged["omp_contiguous"]["nmse_db"] < judged["omp_random"]["nmse_db"] - 1


def test_3gpp_channels_run_through_the_same_chain() -> None:
    pytest.importorskip("sionna")
    judged = run("umi.yml", 32).sinks["nmse"]
    for name in ("omp", "gw_sc_vbi"):
        assert judged[name]["draws"] == 32
        assert judged[name]["ci95_db"][1] < 0, "hundreds of rays: better than no estimate, for certain"


def test_the_lab_loses_slots_on_its_lossy_edge_alone_and_keeps_its_judgement_through_chaos() -> None:
    calm = beamslot.run(FLOWGRAPHS / "lab.yml", slots=60)
    disturbed = beamslot.run(FLOWGRAPHS / "lab.yml", slots=60, chaos="3,every=0.2,actions=kill")
    assert disturbed.sinks["nmse"] == calm.sinks["nmse"]
    for report in (calm, disturbed):
        *lossless, display = report.edges
        assert {(e["offered"], e["acknowledged"], e["in_flight"]) for e in lossless} == {(60, 60, 0)}
        assert display["offered"] == display["acknowledged"] + display["dropped"].get("latest", 0) == 60
        assert report.sinks["display"]["slots"] == display["acknowledged"]


def test_real_time_loses_nothing_that_is_lossless_and_the_tracker_gains_by_earlier_slots() -> None:
    report = beamslot.run(FLOWGRAPHS / "realtime.yml", slots=400)
    judged = report.sinks["nmse"]
    dropped = {edge["edge"]: edge["dropped"] for edge in report.edges if edge["dropped"]}
    assert set(dropped) <= {"combiner.rf > gw_sc_vbi.rf", "gw_sc_vbi.estimate > nmse.estimate"}
    assert {edge["in_flight"] for edge in report.edges} == {0}
    assert judged["fast"]["nmse_db"] < -18
    assert judged["tracker"]["nmse_db"] < judged["fast"]["nmse_db"] - 1


def test_faults_cost_what_they_cost_and_the_slots_lost_are_counted_as_such() -> None:
    result = beamslot.run(FLOWGRAPHS / "faults.yml", slots=100)
    judged, edges = result.sinks["nmse"], {edge["edge"]: edge for edge in result.edges}
    lost = edges["loss.faulty > faulty.rf"]["dropped"]["lost by fault"]
    assert result["exit_code"] == 0
    assert 0 < lost < 10
    counted = {name: block["faults"] for name, block in result["blocks"].items() if "faults" in block}
    assert counted["combiner"] == {"stuck_phase_shifter": 50}
    assert counted["mixer"] == {"iq_imbalance": 100}
    assert "dead" not in counted, "its chains die later"
    assert edges["source.truth > nmse.truth"]["unmatched"] == lost == 100 - judged["faulty"]["draws"]
    assert judged["sound"]["nmse_db"] < judged["faulty"]["nmse_db"] - 1
    assert judged["faulty"]["nmse_db"] < 0


def test_a_net_and_a_search_see_the_same_channel() -> None:
    pytest.importorskip("onnxruntime")
    result = run("dual.yml", 100)
    judged = result.sinks["nmse"]
    for name in ("vae_upa", "vp_nomp"):
        assert judged["crb"]["nmse_db"] < judged[name]["nmse_db"] < -20.0
        assert judged[name]["nmse_db"] < judged["omp"]["nmse_db"] - 3
    for edge in result.edges:
        assert (edge["acknowledged"], edge["dropped"]) == (100, {})


def test_a_net_and_the_classical_chain_are_at_the_bound_together() -> None:
    pytest.importorskip("onnxruntime")
    judged = run("ula_vae.yml", 1600).sinks["angles"]
    for name in ("fbss", "vae"):
        assert (judged[name]["frames"], judged[name]["outlier_share"]) == (40, 0)
        assert judged[name]["rmse_deg"] < 1.3 * judged["crb"]["rmse_deg"]
        assert judged[name]["rmse_deg"] < judged["kr_music"]["rmse_deg"] / 2


def test_a_net_is_followed_while_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    result = beamslot.run(FLOWGRAPHS / "adapt.yml", slots=2400)
    lossy = {"source.field > adapter.field", "adapter.figures > figures.stream"}
    assert {edge["edge"] for edge in result.edges if edge["dropped"]} <= lossy
    assert result.sinks["angles"]["adapted"]["frames"] == result.sinks["angles"]["frozen"]["frames"] == 60
    assert (tmp_path / "adapted.safetensors").exists()
    assert (tmp_path / "adapted.jsonl").exists()


def test_the_graph_to_watch_keeps_its_lossless_edges_whole() -> None:
    """Its scenario of two minutes, a slot for each of its seconds: SNR, paths that are born, chains that die."""
    report = beamslot.run(FLOWGRAPHS / "live.yml", slots=120, parameters={"second": 1}, pace="max")
    dropped = {edge["edge"] for edge in report.edges if edge["dropped"]}
    assert dropped <= {"chains.faulty > omp.rf", "omp.estimate > nmse.estimate"}
    assert [change["slot"] for change in report["timeline"]] == [15, 30, 40, 50, 65, 85, 100, 100]
    assert report.sinks["nmse"]["tracker"]["nmse_db"] < -5
    assert report.sinks["pairs"]["slots"] == {"tracker": 120, "vp_nomp": 120}
    assert report.sinks["pairs"]["tracker - vp_nomp"]["slots"] == 120


def test_samples_give_the_pilots_back() -> None:
    judged = run("iq.yml", 60).sinks["nmse"]
    assert judged["crb"]["nmse_db"] < judged["through_iq"]["nmse_db"] < judged["direct"]["nmse_db"] + 0.3


def test_a_recording_has_every_slot_of_every_port(tmp_path: Path) -> None:
    result = beamslot.run(FLOWGRAPHS / "record.yml", slots=60, parameters={"directory": str(tmp_path / "r")})
    assert result.sinks["recorder"] == {"path": str(tmp_path / "r"), "slots": 180, "missing": 0}


def test_a_recording_is_estimated_from_again(tmp_path: Path) -> None:
    directory = {"directory": str(tmp_path / "r")}
    beamslot.run(FLOWGRAPHS / "record.yml", slots=60, parameters=directory)
    result = beamslot.run(FLOWGRAPHS / "replay.yml", parameters=directory)
    assert {edge["acknowledged"] for edge in result.edges} == {60}
    assert result["pace"]["p50_us"] is not None
    assert result.sinks["nmse"]["sc_vbi"]["nmse_db"] < -15


def test_the_graph_through_gnuradio_is_whole() -> None:
    """It is run beside GNU Radio in tests/gnuradio."""
    graph = load(FLOWGRAPHS / "hil_gnuradio.yml")
    assert {edge.source for edge in graph.edges} == {"front", "from_radio", "combiner", "omp"}


def test_every_shipped_graph_is_run_here() -> None:
    text = Path(__file__).read_text()
    assert [path.name for path in FLOWGRAPHS.glob("*.yml") if f'"{path.name}"' not in text] == []
