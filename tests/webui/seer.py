"""A stand-in for a vision language model: an OpenAI-compatible endpoint that looks with the demo model's detector."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from PIL import Image

from lib_gie.demo.sampling_settings import SIZE
from lib_gie.demo.world.detector import look
from lib_gie.training.judges.vision_judge import COLUMNS, HEAD, SIDE


def _cell(sheet: Image.Image, number: int) -> torch.Tensor:
    """An image of the sheet: float32 [3, SIZE, SIZE], 0 to 1."""
    x, y = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + HEAD) + HEAD
    image = sheet.crop((x, y, x + SIDE, y + SIDE)).resize((SIZE, SIZE))
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body["model"]))
        question, shown = body["messages"][0]["content"]
        count, concept = re.search(r"(\d+) numbered images.*does it show (.+?)\?", question["text"], re.DOTALL).groups()
        sheet = Image.open(io.BytesIO(base64.b64decode(shown["image_url"]["url"].partition(",")[2]))).convert("RGB")
        grades = {str(n + 1): 9 if concept in look(_cell(sheet, n)).shown else 1 for n in range(int(count))}
        answer = json.dumps({"choices": [{"message": {"content": json.dumps(grades)}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


class Seer(ThreadingHTTPServer):
    """Answers on a loopback port of its own until ``shutdown``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """What goes into the settings."""
        return f"http://127.0.0.1:{self.server_port}/v1"
