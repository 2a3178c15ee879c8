"""junit.xml: the results for continuous integration. Pure.

There is no single schema; this keeps to what Jenkins' (`junit-10.xsd`) and Ant's have in common.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from realtime_client.batch.result import CaseResult, RunInfo, StepResult, ToolUse, ending
from realtime_client.escape import one_line, shortened

from .results import check_line, failed_checks

# What XML 1.0 (section 2.2) cannot contain; references to it are not allowed either.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_MOST_CALLS = 50


def junit_xml(info: RunInfo, results: Sequence[CaseResult]) -> bytes:
    """Return the results as JUnit XML: a testsuite a scenario, a testcase a case.

    A case with failed checks has one `failure` with all of them; one that could not be judged has an `error`. A case
    that was planned and has no result is `skipped`.
    """
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(result.scenario, []).append(result)
    done = {result.case for result in results}
    missing = [case for case in info.cases if case not in done]
    root = ET.Element("testsuites", {"name": _xml(info.run), "time": f"{info.duration_s:.3f}", **_counts(results)})
    for name, group in groups.items():
        suite = _suite(root, name, group, info.started)
        for result in group:
            _testcase(suite, result)
    if missing:
        suite = _suite(root, "not run", (), info.started, skipped=len(missing))
        for name in missing:
            case = ET.SubElement(suite, "testcase", name=_xml(name), classname="not run", time="0.000")
            ET.SubElement(case, "skipped")
    for suite in root:
        for last in ("system-out", "system-err"):
            ET.SubElement(suite, last)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(results: Sequence[CaseResult]) -> dict[str, str]:
    failures = sum(result.status == "failed" for result in results)
    errors = sum(result.status == "error" for result in results)
    return {"tests": str(len(results)), "failures": str(failures), "errors": str(errors)}


def _suite(root: ET.Element, name: str, group: Sequence[CaseResult], began: str, *, skipped: int = 0) -> ET.Element:
    counts = _counts(group) | {"skipped": str(skipped)}
    if skipped:
        counts["tests"] = str(skipped)
    started = min((result.started for result in group if result.started), default=began)
    facts = {
        "name": _xml(name),
        "id": str(len(root)),
        "package": "realtime",
        "hostname": "localhost",
        "timestamp": _xml(started)[:19],  # the schema knows no fraction and no zone
        "time": f"{sum(result.duration_s for result in group):.3f}",
    }
    suite = ET.SubElement(root, "testsuite", facts | counts)
    ET.SubElement(suite, "properties")
    return suite


def _testcase(suite: ET.Element, result: CaseResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=_xml(result.case),
        classname=_xml(result.scenario),
        time=f"{result.duration_s:.3f}",
    )
    failed = failed_checks(result)
    if result.status == "error":
        fault = result.fault
        kind, message = (fault.kind, fault.message) if fault else ("error", "no verdict")
        ET.SubElement(case, "error", type=_xml(kind), message=_line(message)).text = _xml(message)
    elif result.status == "failed":
        lines = [check_line(check) for check in failed] or ["failed"]
        element = ET.SubElement(case, "failure", type=_xml(failed[0].kind if failed else "check"))
        element.set("message", _line(lines[0] if len(lines) == 1 else f"{lines[0]} (and {len(lines) - 1} more)"))
        element.text = _xml("\n".join(lines))
    lines = [_call(step, use) for step in result.steps for use in step.tools]
    if len(lines) > _MOST_CALLS:
        lines[_MOST_CALLS:] = [f"and {len(lines) - _MOST_CALLS} more calls"]
    if result.recording:
        lines.append(f"recording: {result.recording}")
    if lines:
        ET.SubElement(case, "system-out").text = _xml("\n".join(lines))


def _call(step: StepResult, use: ToolUse) -> str:
    """One line about a call of a tool."""
    call = f"turn {step.n}: {use.name}({shortened(use.arguments, 200)}) {ending(use)}"
    return one_line(f"{call} -> {shortened(use.output, 200)}" if use.output else call, 600)


def _xml(text: str) -> str:
    """Replace what XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _line(text: str) -> str:
    return _xml(" ".join(text.split()))[:500]
