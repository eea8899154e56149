"""The page on which a person judges: a row of images, one per scale, and a click. Only this machine can reach it."""

from __future__ import annotations

import base64
import html
import io
import queue
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import torch

from lib_gie.pictures import picture

_SIDE = 224  # pixels of an image on the page
_MOST_BYTES = 1000  # in an answer
_PAGE = """<!doctype html><meta charset="utf-8"><title>Growth inhibitors: judge by hand</title>{refresh}
<style>body {{ font: 16px sans-serif; margin: 2em; }} form {{ display: flex; flex-wrap: wrap; gap: 8px; }}
button {{ padding: 4px; cursor: pointer; }} img {{ width: {side}px; display: block; image-rendering: auto; }}</style>
{body}"""
_WAITING = "<p>Making the next images. This page shows them by itself.</p>"


@dataclass(frozen=True)
class _Question:
    number: int
    images: int
    body: str


def _png(image: torch.Tensor) -> str:
    """Return an image, float32 [3, H, W], 0 to 1, as a data address."""
    buffer = io.BytesIO()
    picture(image).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _form(number: int, images: torch.Tensor, prompt: str, concept: str) -> str:
    buttons = "".join(
        f"<button name=choice value={k} title='image {k + 1}'><img alt='image {k + 1}' src='{_png(image)}'></button>"
        for k, image in enumerate(images)
    )
    return (
        f"<h1>{html.escape(prompt)}</h1><p>Click on the first image that does not show <b>{html.escape(concept)}</b> "
        f"(the first of all if none does).</p><form method=post><input type=hidden name=question value={number}>"
        f"{buttons}<button name=choice value={len(images)}>all show it</button></form>"
    )


class Page:
    """Serves one question after the other on 127.0.0.1. ``port``: 0 takes any free one."""

    def __init__(self, port: int = 0):
        self._answers: queue.Queue[int] = queue.Queue()
        self._question: _Question | None = None
        self._asked = 0
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30  # seconds without a word from the other side

            def do_GET(self) -> None:
                if self._is_ours():
                    self._send(page._shown())

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length") or "0"
                if not (length.isascii() and length.isdigit() and int(length[:5]) <= _MOST_BYTES and len(length) < 5):
                    self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
                if not self._is_ours():
                    return
                page._take(self.rfile.read(int(length)).decode(errors="replace"))
                self.send_response(HTTPStatus.SEE_OTHER)
                self.send_header("Location", "/")
                self.end_headers()

            def _is_ours(self) -> bool:
                """Tell whether the browser shows this page: one of another name could read it and click on it."""
                here = f"127.0.0.1:{page._server.server_port}"
                if self.headers.get("Host") == here and self.headers.get("Origin") in (None, f"http://{here}"):
                    return True
                self.send_error(HTTPStatus.FORBIDDEN)
                return False

            def _send(self, text: str) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Write nothing: the terminal has a progress bar."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        print(f"judge by hand at {self.url}", file=sys.stderr)

    def _shown(self) -> str:
        question = self._question
        refresh = "" if question else '<meta http-equiv="refresh" content="1">'
        return _PAGE.format(refresh=refresh, side=_SIDE, body=question.body if question else _WAITING)

    def _take(self, form: str) -> None:
        """Take an answer. One to an earlier question (a second click, an old tab) is ignored."""
        question, fields = self._question, parse_qs(form)
        try:
            number, choice = int(fields["question"][0]), int(fields["choice"][0])
        except (LookupError, ValueError):
            return
        if question is not None and number == question.number and 0 <= choice <= question.images:
            self._question = None
            self._answers.put(choice)

    def ask(self, images: torch.Tensor, prompt: str, concept: str) -> int:
        """Show the row and wait for a click (see ``hand_judge.Ask``)."""
        self._asked += 1
        self._question = _Question(self._asked, len(images), _form(self._asked, images, prompt, concept))
        return self._answers.get()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
