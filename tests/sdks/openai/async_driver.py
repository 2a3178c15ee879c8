"""A spoken conversation by the async client of `openai`. Arguments: URL, TOKEN, folder with the questions."""

from __future__ import annotations

import asyncio
import sys

import openai
from talk import Talk


async def main(url: str, token: str, folder: str) -> None:
    talk = Talk(folder)
    client = openai.AsyncOpenAI(api_key=token, websocket_base_url=url.removesuffix("/realtime"))
    async with client, client.realtime.connect(model="gpt-realtime") as connection:
        async for event in connection:
            for message in talk.take(event):
                await connection.send(message)
            if talk.over:
                return


asyncio.run(main(*sys.argv[1:]))
