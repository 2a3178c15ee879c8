"""The llama.cpp server with one model. Arguments: the model's file, tokens of context for all, answers at once.

Says its URL in a line on stdout once it can be asked, and ends when its stdin does.
"""

from __future__ import annotations

import sys

from xllamacpp import CommonParams, Server

path, context, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params = CommonParams()
params.model.path = path
params.model_alias = ["smollm2-135m-instruct"]
params.port = 0
params.use_jinja = True
params.n_ctx = context
params.n_parallel = at_once
params.endpoint_slots = params.endpoint_metrics = True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two spin against each other on a busy machine
server = Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
