"""Faults: what each kind of refusal means, how long to wait, which field was refused, and what people can do."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from realtime_client.chat.hints import hint
from realtime_client.chat.wires import faults
from realtime_client.chat.wires.faults import Fault, classify, error_in, refused, refused_field, retry_after_s

NOW = dt.datetime(2026, 11, 26, 12, 0, 0, tzinfo=dt.UTC)


def judged(status: int, body: Any = "", **headers: str) -> Fault:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return refused(status, {name.replace("_", "-"): value for name, value in headers.items()}, data, now=NOW)


def error(message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


# --- what is to be done -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529])
def test_what_passes_is_asked_again(status: int) -> None:
    fault = judged(status, error())
    assert (fault.category, fault.action, fault.trips, fault.status) == ("application", "retry", True, status)


@pytest.mark.parametrize(
    ("status", "action", "trips"),
    [
        (400, "fatal", False),
        (401, "fallback", True),
        (402, "fallback", True),
        (403, "fallback", True),
        (404, "fallback", False),
        (405, "fatal", False),
        (413, "fatal", False),
        (422, "fatal", False),
        (499, "fallback", False),
        (501, "fatal", False),
        (505, "fallback", False),
        (302, "fallback", False),
    ],
)
def test_what_does_not_pass_is_not(status: int, action: str, trips: bool) -> None:
    fault = judged(status, error())
    assert (fault.action, fault.trips) == (action, trips)


_DAY = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota", "details": [
    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]}}  # fmt: skip
_MINUTE = json.loads(json.dumps(_DAY).replace("PerDay", "PerMinute"))


@pytest.mark.parametrize(
    ("fault", "action", "trips"),
    [
        (judged(429, error(code="insufficient_quota", type="insufficient_quota")), "fallback", True),
        (judged(429, error(code="rate_limit_exceeded")), "retry", True),
        (judged(429, _DAY), "fallback", True),
        (judged(429, _MINUTE), "retry", True),
        (
            judged(400, error(code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"})),
            "fatal",
            False,
        ),
        (judged(400, error(innererror={"code": "ResponsibleAIPolicyViolation"})), "fatal", False),
        (judged(400, error(code="context_length_exceeded")), "fatal", False),
        (judged(400, error(code=400, type="exceed_context_size_error", n_ctx=1024)), "fatal", False),
        (judged(404, error(code="model_not_found")), "fallback", False),
        (judged(401, error(code="invalid_api_key")), "fallback", True),
        (judged(503, error("loading model", code=503, type="unavailable_error")), "retry", True),
        (judged(503, error(), x_should_retry="false"), "fallback", True),
        (judged(400, error(), x_should_retry="true"), "retry", True),
        (judged(429, error(code="insufficient_quota"), x_should_retry="true"), "fallback", True),
        (judged(429, error(), retry_after="120"), "retry", True),
        (judged(429, error(), retry_after="121"), "fallback", True),
        # In the stream there is no status; the code may be one.
        (classify(None, "429", "slow down"), "retry", True),
        (classify(None, "502", "upstream"), "retry", True),
        (classify(None, "400", "no"), "fatal", False),
        (classify(None, "401", "no"), "fallback", True),
        (classify(None, "server_error", "no"), "retry", True),
        (classify(None, "overloaded_error", "no"), "retry", True),
        (classify(None, "throttlingException", "no"), "retry", True),
        (classify(None, "ThrottlingException", "no"), "retry", True),
        (classify(None, "UNAVAILABLE", "no"), "retry", True),
        (classify(None, "RESOURCE_EXHAUSTED 429", "no"), "retry", True),
        (classify(None, "content_filter", "no"), "fatal", False),
        (classify(None, "invalid_request_error", "no"), "fallback", False),
        (classify(None, "", "llama runner process has terminated: exit status 2"), "retry", True),
        (classify(None, "", "an error was encountered while running the model: unexpected EOF"), "retry", True),
        (classify(None, "", "The engine is currently overloaded, please try again later"), "retry", True),
        (classify(None, "", "something broke"), "fallback", False),
    ],
)
def test_codes_say_more_than_a_status(fault: Fault, action: str, trips: bool) -> None:
    assert (fault.action, fault.trips) == (action, trips), fault


@pytest.mark.parametrize(
    ("fault", "too_long"),
    [
        (judged(400, error(code="context_length_exceeded")), True),
        (judged(400, error("request (3031 tokens) exceeds the available context size (1024 tokens)")), True),
        (judged(400, error(code=400, type="exceed_context_size_error")), True),
        (judged(400, error("This model's maximum context length is 8192 tokens.")), True),
        (judged(400, error("prompt is too long: 208310 tokens > 200000 maximum")), True),
        (judged(400, error("The input token count (1200000) exceeds the maximum number of tokens allowed")), True),
        (judged(400, error("no")), False),
        (judged(500, error("context length exceeded")), False),
    ],
)
def test_what_is_too_long_is_told(fault: Fault, too_long: bool) -> None:
    assert fault.too_long is too_long


# --- how long to wait -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:20 -0000"}, 20.0),
        ({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 26 Nov 99999999999999999999 12:00:20 GMT"}, None),
        ({"retry-after": "3", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "3", "retry-after-ms": "?"}, 3.0),
    ],
)
def test_retry_after_has_three_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now=NOW) == seconds


def test_google_says_it_in_the_body() -> None:
    assert judged(429, _MINUTE).retry_after_s == 17.0
    assert judged(429, [_MINUTE]).retry_after_s == 17.0
    assert judged(429, _MINUTE, retry_after="2").retry_after_s == 2.0


# --- how servers write errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (error("no", code="c", type="t"), ("c t", "no")),
        (error("no", code=429, status="RESOURCE_EXHAUSTED"), ("429 RESOURCE_EXHAUSTED", "no")),
        ({"error": "model 'x' not found"}, ("", "model 'x' not found")),
        ([error("no")], ("", "no")),
        ({"detail": "Not Found"}, ("", "Not Found")),
        ({"detail": [{"loc": ["body", "n"], "msg": "too many"}]}, ("", "body.n: too many")),
        ({"detail": {"a": 1}}, ("", '{"a":1}')),
        ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, ("400 BadRequestError", "no")),
        ({"statusCode": 401, "message": "Access denied due to missing subscription key"},
         ("401", "Access denied due to missing subscription key")),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
         ("overloaded_error", "Overloaded")),
        ({"type": "error", "code": "server_error", "message": "no"}, ("server_error", "no")),
        ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]},
         ("10000", "Authentication error")),
        ({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "busy"}}},
         ("502", "Provider returned error: busy")),
        ({"error": None, "choices": []}, None),
        ({"choices": [], "detail": "high"}, None),
        ({}, None),
        ([], None),
        ("text", None),
    ],
)  # fmt: skip
def test_errors_are_found_in_every_form(value: Any, found: tuple[str, str] | None) -> None:
    assert error_in(value) == found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (error("no\nat all"), "no at all"),
        ({"message": "Forbidden"}, "Forbidden"),
        ({"Message": "Forbidden"}, "Forbidden"),
        ("upstream connect error", "upstream connect error"),
        ("<html><body>502 Bad Gateway</body></html>", "HTTP 502"),
        ("", "HTTP 502"),
        ("[" * 100_000, "[" * 297 + "..."),
        ('{"error": {"message": "cut', '{"error": {"message": "cut'),
    ],
)
def test_a_fault_says_one_line(body: Any, message: str) -> None:
    fault = judged(502, body)
    assert fault.message == fault.line == message
    assert Fault(category="network", action="retry", message="a", hint="b").line == "a; b"


# --- the field that is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                    "instead.", param="max_tokens", code="unsupported_parameter"), "max_tokens"),
        (400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                    "instead."), "max_tokens"),
        (400, error("Unrecognized request argument supplied: max_completion_tokens"), "max_completion_tokens"),
        (400, error("Unrecognized request argument supplied: stream_options"), "stream_options"),
        (400, error("Unknown parameter: 'stream_options.include_usage'.", param="stream_options.include_usage"),
         "stream_options"),
        (422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
         "stream_options"),
        (400, {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'parallel_tool_calls')}]"},
         "parallel_tool_calls"),
        (400, error("Additional properties are not allowed ('store' was unexpected)"), "store"),
        (400, {"error": '"llama3.2" does not support thinking'}, "think"),
        (400, {"error": 'think value "high" is not supported for this model'}, "think"),
        (400, error("Unsupported value: 'temperature' does not support 0.7 with this model.", param="temperature",
                    code="unsupported_value"), "temperature"),
        (400, error("Encrypted content is not supported with this model.", param="include"), "include"),
        (400, error("Unsupported parameter: 'reasoning.effort' is not supported", param="reasoning.effort"),
         "reasoning"),
        (400, error("Unsupported parameter: 'reasoning_effort' is not supported"), "reasoning_effort"),
        (400, error("Your organization must be verified to stream this model.", param="stream",
                    code="unsupported_value"), "stream"),
        (400, error("Streaming is not supported for this model"), "stream"),
        (400, error("This endpoint doesn't support streaming"), "stream"),
        (400, error("Unsupported value: 'stream' does not support true with this model."), "stream"),
        (405, "", "stream"),
        (501, "", "stream"),
        # Of a value, of something else, or of nothing that can be left out:
        (400, error("max_tokens is too large: 5000. This model supports at most 4096 completion tokens",
                    param="max_tokens", code="invalid_value"), ""),
        (400, error("Unsupported parameter: 'messages[0].role'", param="messages[0].role"), ""),
        (400, error("Unknown model"), ""),
        (400, {"error": "registry.ollama.ai/library/x does not support tools"}, ""),
        (404, error("Unknown parameter: 'stream_options'"), ""),
        (500, error("Unknown parameter: 'stream_options'"), ""),
    ],
)  # fmt: skip
def test_the_refused_field_is_named(status: int, body: Any, field: str) -> None:
    assert judged(status, body).field == field


def test_every_field_of_the_table_can_be_named() -> None:
    for field in faults._FIELDS:
        assert refused_field(400, f"Unknown parameter: '{field}'.") == field
        assert refused_field(400, "Extra inputs are not permitted", f"body.{field}") == field


# --- what people can do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "provider", "told"),
    [
        (judged(404, {"error": "model 'm' not found"}), "ollama", "`ollama pull m`"),
        (judged(404, error()), "azure", "is m the name of a deployment there"),
        (judged(404, {"statusCode": 404, "message": "Resource not found"}), "apim", "is m the name of a deployment"),
        (judged(404, error("The model m does not exist")), "openai", "`realtime models openai` lists"),
        (judged(404, error("Not Found")), "openai", "is the URL right? `realtime models openai` lists"),
        (judged(401, error("Incorrect API key provided")), "openai", "set OPENAI_API_KEY"),
        (judged(401, error()), "openai-responses", "set OPENAI_API_KEY"),
        (judged(401, error()), "azure", "set AZURE_OPENAI_API_KEY, or AZURE_OPENAI_AD_TOKEN"),
        (judged(400, error("API key not valid. Please pass a valid API key.")), "gemini", "set GOOGLE_API_KEY or GEMINI"),
        (judged(401, error()), "anthropic", "set ANTHROPIC_API_KEY"),
        (judged(403, error("Unauthenticated")), "bedrock", "set AWS_BEARER_TOKEN_BEDROCK"),
        (judged(401, {"error": "unauthorized", "signin_url": "https://ollama.com"}), "ollama", "`ollama signin`"),
        (judged(401, {"statusCode": 401, "message": "Access denied due to missing subscription key"}), "apim",
         "set APIM_SUBSCRIPTION_KEY"),
        (judged(401, error()), "own", ""),
        (judged(403, error("no")), "openai", "the key may not use m"),
        (judged(429, error(code="insufficient_quota")), "openai", "the billing"),
        (judged(429, error(), retry_after="30"), "openai", ""),  # the error has it as a field of its own
        (judged(503, {"error": "server busy"}), "ollama", "OLLAMA_MAX_QUEUE"),
        (judged(400, error(code="content_filter")), "azure", "in other words"),
        (judged(400, error(code="context_length_exceeded")), "openai", "longer than the model can read"),
        (judged(400, {"error": "m does not support tools"}), "ollama", "m takes no tools"),
        (judged(400, error("image input is not supported")), "openai", "m takes no images"),
        (judged(500, {"error": "this model is missing data required for image input"}), "ollama", "m takes no images"),
        (judged(400, error()), "openai", ""),
        (faults.network("cannot reach localhost:11434"), "ollama", "is Ollama running?"),
        (faults.network("localhost said nothing within 60 s"), "ollama", ""),
        (faults.network("connection refused"), "openai", ""),
        (Fault(category="network", action="retry", message="x", hint="as it is"), "ollama", "as it is"),
        (faults.cut(), "ollama", ""),
        (faults.malformed("?"), "ollama", ""),
    ],
)  # fmt: skip
def test_a_hint_says_what_to_do(fault: Fault, provider: str, told: str) -> None:
    said = hint(fault, provider, "m")
    assert told in said
    assert bool(told) == bool(said)


def test_faults_of_the_way_and_of_what_came() -> None:
    assert (faults.cut().category, faults.cut().action, faults.cut().code) == ("network", "retry", "cut")
    assert (faults.malformed("a\x1b[2J\nb").category, faults.malformed("a\nb").action) == ("protocol", "restart")
    assert faults.malformed("a\x1b[2J\nb").message == "a[2J b"
