"""What people can do about a fault, in a few words for each provider."""

from __future__ import annotations

from .wires.faults import Fault


def hint(fault: Fault, provider: str, model: str) -> str:
    """Return what helps; '' where nothing more can be said than the fault says."""
    if provider == "ollama" and fault.status == 404:
        return f"get it: ollama pull {model}"
    if provider == "ollama" and fault.category == "network" and "reach" in fault.message:
        return "start it: ollama serve"
    return ""
