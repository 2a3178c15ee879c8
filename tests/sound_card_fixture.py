"""The virtual sound card as a fixture; a test module gets it by `pytest_plugins = ["sound_card_fixture"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sound_card import SoundCard, missing


@pytest.fixture(scope="session")
def sound_card_server() -> Iterator[SoundCard]:
    """The one server of this test run; skips, and says what to install, where it cannot be had."""
    if lacks := missing():
        pytest.skip(lacks)
    card = SoundCard()
    try:
        card.start()
        yield card
    finally:
        card.remove()


@pytest.fixture
def sound_card(sound_card_server: SoundCard, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundCard]:
    """The sound card, healthy, as the one that this process and its children see."""
    from realtime_client.audio import devices

    for name, value in sound_card_server.variables().items():
        monkeypatch.setenv(name, value)
    sound_card_server.heal()
    devices.refresh()
    yield sound_card_server
    sound_card_server.thaw()  # whoever hangs on it comes free
