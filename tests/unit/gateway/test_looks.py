"""Which rooms without a known call are looked into, and how often that may be in vain."""

from gateway.calls.looks import LOOK_BURST, LOOKS_PER_SECOND, RESERVE, Looks
from gateway.livekit.server import Room
from tests.unit.gateway.scenes import NOW


def room(number: int, participants: int = 0) -> Room:
    """A room that is younger than those with a lower number."""
    return Room(f"room-{number}", "", sid=f"RM_{number}", created_at=NOW + number, participants=participants)


ROOMS = [room(number) for number in range(3)]


def test_looks_that_find_a_call_have_no_bound() -> None:
    looks = Looks()
    for _ in range(2):
        for number in range(100):
            looks.hint(f"room-{number}")
    assert [looks.take_hint(NOW) for _ in range(101)] == [*(f"room-{number}" for number in range(100)), None]
    assert not looks.has_hints
    assert looks.may_begin(ROOMS[0], NOW)


def test_looks_in_vain_have_one_bound_for_events_and_lists() -> None:
    looks, made = Looks(), 0
    for number in range(100):
        looks.hint(f"room-{number}")
    while looks.take_hint(NOW) is not None:
        made += 2
        looks.count_in_vain(2)
    assert made == LOOK_BURST
    assert not looks.may_begin(ROOMS[0], NOW)
    later = NOW + 1 / LOOKS_PER_SECOND
    assert looks.may_begin(ROOMS[0], later)
    assert looks.take_hint(later) is not None
    looks.clear_hints()
    assert not looks.has_hints


def test_youngest_room_is_first_and_rooms_without_a_look_before_others() -> None:
    looks = Looks()
    assert [one.name for one in looks.due(ROOMS, NOW)] == ["room-2", "room-1", "room-0"]
    looks.record(ROOMS[2], NOW + 5)
    looks.record(ROOMS[1], NOW + 5)
    assert [one.name for one in looks.due(ROOMS, NOW + 4)] == ["room-0"]
    assert [one.name for one in looks.due(ROOMS, NOW + 5)] == ["room-0", "room-2", "room-1"]
    looks.forget()
    assert looks.due(ROOMS, NOW) == ROOMS[::-1]


def test_room_that_somebody_has_entered_is_due_once() -> None:
    looks = Looks()
    looks.record(ROOMS[0], NOW + 60)
    assert looks.due(ROOMS[:1], NOW) == []
    entered = room(0, participants=1)
    assert looks.due([entered], NOW) == [entered]
    looks.record(entered, NOW + 60)
    assert looks.due([room(0, participants=2)], NOW) == []


def test_room_that_was_closed_is_forgotten() -> None:
    looks = Looks()
    looks.record(ROOMS[0], NOW + 60)
    looks.due([], NOW)
    assert looks.due(ROOMS[:1], NOW) == ROOMS[:1]


def test_repeated_looks_leave_a_reserve_for_rooms_with_news() -> None:
    looks, made = Looks(), 0
    looks.record(ROOMS[0], NOW)
    while looks.may_begin(ROOMS[0], NOW):
        made += 1
        looks.count_in_vain(1)
    assert made == LOOK_BURST - RESERVE
    assert looks.may_begin(ROOMS[1], NOW)
