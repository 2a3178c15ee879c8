"""The settings as keywords of `connect`, with the types that a program gives them in: for editors and type checkers.

A test holds them against `SPECS`. None is as good as not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

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
    header: str | Secret | None
    azure_api_version: str | None
    ollama_host: str | None
    ollama_api_key: str | Secret | None
    apim_endpoint: str | None
    apim_api_version: str | None
    apim_key: str | Secret | None
    apim_key_header: str | None
    google_api_key: str | Secret | None
    gemini_api_key: str | Secret | None
    gemini_base_url: str | None
    anthropic_api_key: str | Secret | None
    anthropic_base_url: str | None
    aws_region: str | None
    model: str | None
    brain: str | None
    fallback: str | None
    fallback_on_error: bool | None
    streaming: bool | None
    temperature: float | None
    think: str | None
    filter: str | Path | None
    context: int | None
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
    log_level: str | None
    log_file: str | Path | None
    log_json: bool | None
    metrics_port: int | None
    screen_interval_s: float | None
    otel: bool | None
    tool_files: Sequence[str | Path] | None
    mcp: Sequence[str] | Mapping[str, Mapping[str, Any]] | None
    mcp_env: Sequence[str] | None
    server_mcp: Sequence[str] | Mapping[str, str | Mapping[str, Any]] | None
    approve: Sequence[str] | None
    fallback_after_s: float | None
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
    ack_timeout_s: float | None
    busy_timeout_s: float | None
    reconnect_s: float | None
    restore_tokens: int | None
    keep_audio_s: float | None
    rollover_s: float | None
    stream_timeout_s: float | None
    first_byte_s: float | None
    silence_s: float | None
    grace_s: float | None
    retries: int | None
    retry_delay_s: float | None
    streams: int | None
    history_entries: int | None
    history_bytes: int | None
    context_tokens: int | None
    answer_characters: int | None
    chunk_buffer: int | None
    when_full: Literal["block", "drop", "fail"] | None
    tool_timeout_s: float | None
    tools_at_once: int | None
    tool_open_calls: int | None
    approval_timeout_s: float | None
    tool_result_characters: int | None
    tool_argument_bytes: int | None
