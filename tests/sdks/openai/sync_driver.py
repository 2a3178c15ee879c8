"""A spoken conversation by the sync client of `openai`. Arguments: URL, TOKEN, folder with the questions."""

from __future__ import annotations

import sys

import openai
from talk import Talk


def main(url: str, token: str, folder: str) -> None:
    talk = Talk(folder)
    client = openai.OpenAI(api_key=token, websocket_base_url=url.removesuffix("/realtime"))
    with client, client.realtime.connect(model="gpt-realtime") as connection:
        for event in connection:
            for message in talk.take(event):
                connection.send(message)
            if talk.over:
                return


main(*sys.argv[1:])
