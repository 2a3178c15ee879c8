"""The settings as keywords of `connect`, with the types that a program gives them in: for editors and type checkers.

A test holds them against `SPECS`. None is as good as not given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from realtime_client.secret import Secret

AudioFormatName = Literal["pcm16", "g711_ulaw", "g711_alaw"]


class Keywords(TypedDict, total=False):
    """One entry for each setting; `realtime settings` lists them with what is in force."""

    url: str | None
    local: bool | None
    base_url: str | None
    api_key: str | Secret | None
    token: str | Secret | None
    organization: str | None
    project: str | None
    azure_endpoint: str | None
    azure_api_key: str | Secret | None
    azure_ad_token: str | Secret | None
    model: str | None
    proxy: str | None
    ca_file: str | Path | None
    voice: str | None
    instructions: str | None
    modality: Literal["audio", "text"] | None
    turn_detection: Literal["server_vad", "semantic_vad", "ptt", "none"] | None
    input_format: AudioFormatName | None
    output_format: AudioFormatName | None
    transcription: str | None
    speed: float | None
    max_output_tokens: int | Literal["inf"] | None
    mic: str | int | None
    speaker: str | int | None
    echo: Literal["auto", "headphones", "aec", "half-duplex"] | None
    volume: float | None
    record: bool | None
    record_dir: str | Path | None
    flac: bool | None
    log_level: Literal["debug", "info", "warning", "error"] | None
    log_file: str | Path | None
    log_json: bool | None
    metrics_port: int | None
    otel: bool | None
    open_timeout_s: float | None
    read_timeout_s: float | None
    write_timeout_s: float | None
    ping_interval_s: float | None
    pong_timeout_s: float | None
    close_timeout_s: float | None
    answer_timeout_s: float | None
    inbound_queue: int | None
    inbound_bytes: int | None
    outbox_queue: int | None
    outbox_bytes: int | None
    updates_queue: int | None
    max_frame_bytes: int | None
