"""The session in the places where asyncio programs run: a FastAPI server, the kernel of a notebook."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator

import nbformat
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from nbclient import NotebookClient
from websockets.sync.client import connect

from realtime_client import LocalServer, aio
from realtime_client import updates as up

WAIT_S = 20.0


# --- FastAPI ----------------------------------------------------------------------------------------------------------


def app_of(server: LocalServer, left: threading.Semaphore) -> FastAPI:
    """left: released whenever an endpoint's block has ended."""
    app = FastAPI()
    where = {"url": server.url, "api_key": "none", "record": False}

    @app.get("/ask")
    async def ask(question: str) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            async with aio.connect(**where) as session, session.updates() as updates:
                await session.send_text(question)
                async for update in updates:
                    if isinstance(update, up.TextDelta):
                        yield update.text
                    elif isinstance(update, up.ResponseDone):
                        break
            left.release()

        return StreamingResponse(words(), media_type="text/plain")

    @app.websocket("/talk")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async with aio.connect(**where) as session:
                while True:
                    answer = await session.ask(await websocket.receive_text())
                    await websocket.send_json({"text": answer.text, "ms": answer.timings.total_ms})
        except WebSocketDisconnect:
            pass
        finally:
            left.release()

    return app


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Run by uvicorn in a thread, its loop in debug mode; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listener.close()
        assert not thread.is_alive()


def test_fastapi(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Endpoints that stream and that hold a conversation; a client that hangs up ends its session."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    left = threading.Semaphore(0)
    with LocalServer() as server, served(app_of(server, left)) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ask?question=What+is+2+plus+3%3F", timeout=WAIT_S) as got:
            assert "5" in got.read().decode()
        assert left.acquire(timeout=WAIT_S)
        with connect(f"ws://127.0.0.1:{port}/talk") as one, connect(f"ws://127.0.0.1:{port}/talk") as other:
            for client in (one, other):
                client.send("What is 3 plus 4?")
            for client in (one, other):
                answer = json.loads(client.recv(timeout=WAIT_S))
                assert "7" in answer["text"]
                assert answer["ms"] > 0
            assert server.sessions == 2
            other.send("What is 1 plus 1?")  # and hangs up
        for _ in range(2):
            assert left.acquire(timeout=WAIT_S)
    complaints = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [each for each in complaints if "never" in each or "exception" in each.lower()]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("realtime-")]


# --- a notebook -------------------------------------------------------------------------------------------------------

CELLS = [
    "import realtime_client",
    "session = await realtime_client.aio.connect(local=True, record=False)",
    "answer = await session.ask('What is 2 plus 3?')\nprint(answer.text)",
    """import asyncio
try:
    async with asyncio.timeout(0.2):
        await session.ask('Tell me a story.')
except TimeoutError:
    print('cancelled')
print((await session.ask('What is 3 plus 4?')).text)""",
    "await session.close()",
    """import threading
print([thread.name for thread in threading.enumerate() if thread.name.startswith('realtime-')])""",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's own libraries
def test_a_notebook() -> None:
    """Cells await in the kernel's own loop; one session lives from cell to cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=int(2 * WAIT_S), kernel_name="python3").execute()
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert "5" in printed[2]
    cancelled, answer = printed[3].splitlines()
    assert (cancelled, "7" in answer) == ("cancelled", True), printed[3]
    assert printed[5].strip() == "[]"
