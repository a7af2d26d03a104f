"""From one state of the page to the next: as little as there is to say."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fs3.core.dashboard.changes import changes_between, letters_changed


def state(**sections: Any) -> dict[str, Any]:
    return {
        "health": {"health": "healthy", "groups": []},
        "nodes": [{"name": "a", "state": "well", "rates": None}, {"name": "b", "state": "well", "rates": None}],
        "chains": {"ids": [[1, 4]], "states": "wwww", "odd": []},
        "events": [{"seq": 1}],
        "history": {"fine": [[1, 0]], "coarse": []},
        **sections,
    }


def test_nothing_is_said_of_what_is_the_same() -> None:
    assert changes_between(state(), state()) == {}


def test_small_sections_are_sent_whole() -> None:
    health = {"health": "down", "groups": []}
    assert changes_between(state(), state(health=health)) == {"set": {"health": health}}


def test_nodes_are_sent_one_by_one_and_those_that_went_by_name() -> None:
    after = state(nodes=[{"name": "b", "state": "dead", "rates": None}, {"name": "c", "state": "well", "rates": None}])
    assert changes_between(state(), after) == {"nodes": after["nodes"], "gone": ["a"]}


def test_of_nodes_that_only_do_more_the_rates_are_sent() -> None:
    before = [{"name": name, "state": "well", "rates": [1]} for name in ("a", "b", "c")]
    after = [{**before[0], "rates": [2]}, before[1], {**before[2], "rates": [2], "state": "dead"}]
    assert changes_between(state(nodes=before), state(nodes=after)) == {"nodes": [after[2]], "rates": {"a": [2]}}


def test_letters_of_chains_are_sent_in_runs() -> None:
    after = state(chains={"ids": [[1, 4]], "states": "wbbw", "odd": [{"chain": 2}]})
    assert changes_between(state(), after) == {"chain_states": [[1, "bb"]], "set": {"chains": {"odd": [{"chain": 2}]}}}


def test_other_chains_are_sent_whole() -> None:
    after = state(chains={"ids": [[1, 5]], "states": "wwwww", "odd": []})
    assert changes_between(state(), after) == {"set": {"chains": after["chains"]}}


def test_events_and_samples_are_sent_from_behind_the_newest() -> None:
    after = state(events=[{"seq": 1}, {"seq": 2}], history={"fine": [[1, 0], [3, 1]], "coarse": [[30, 2]]})
    assert changes_between(state(), after) == {"events": [{"seq": 2}], "samples": {"fine": [[3, 1]], "coarse": [[30, 2]]}}


def test_samples_behind_a_gap_are_all_new() -> None:
    after = state(history={"fine": [[7, 0], [9, 1]], "coarse": []})
    assert changes_between(state(), after)["samples"]["fine"] == [[7, 0], [9, 1]]


@given(st.lists(st.tuples(st.sampled_from("wbx"), st.sampled_from("wbx"))))
def test_runs_lead_from_one_string_to_the_other(pairs: list[tuple[str, str]]) -> None:
    before, after = "".join(old for old, _ in pairs), "".join(new for _, new in pairs)
    found = before
    for place, letters in letters_changed(before, after):
        assert found[place : place + len(letters)] != letters
        found = found[:place] + letters + found[place + len(letters) :]
    assert found == after
