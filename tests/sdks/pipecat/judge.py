"""Reads server messages, one JSON object a line, from the file named by the argument, and prints those that pipecat's
own models do not take. They demand fields that others may lack.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipecat.services.openai.realtime.events import parse_server_event

taken = 0
for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    try:
        event = parse_server_event(line)
    except Exception as error:
        print(json.dumps({"refused": json.loads(line), "why": str(error)}))
        continue
    if event is None:
        print(json.dumps({"unknown": json.loads(line)["type"]}))
    else:
        taken += 1
print(json.dumps({"taken": taken}))
