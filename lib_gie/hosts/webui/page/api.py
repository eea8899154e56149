"""Endpoints under /gie/v1, described in the WebUI's /docs."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, HTTPException
from modules import shared
from pydantic import BaseModel, Field

from lib_gie.core.concepts import MAX_TOKENS, parse_concepts
from lib_gie.errors import GieError
from lib_gie.hosts.library import list_adapters, taken_for
from lib_gie.hosts.webui.host.model import check_supported, loaded_model, split_tokens
from lib_gie.hosts.webui.request.enforcement import enforced_text
from lib_gie.hosts.webui.request.installed import adapter_folders
from lib_gie.hosts.webui.request.parsing import TITLE


class AdapterAnswer(BaseModel):
    """An installed adapter."""

    name: str = Field(description="what the argument `adapter` takes")
    base: str = Field(description="model family: sd1, sd2, sdxl, sdxl-refiner, gie-demo; width-N for others")
    kind: str = Field(
        description="adapter, or calibrated: a calibration, which is for one checkpoint; those that the WebUI has made "
        "are not listed"
    )
    inputs: int = Field(description="numbers that are read from that family's UNet")
    concepts: list[str] = Field(description="concepts that it is for")
    hash: str = Field(description="first 10 digits of the file's SHA-256")
    digest: str = Field(description="first 10 digits of its weights' digest, as in infotexts")
    automatic: list[str] = Field(description="concepts for which Automatic takes it on a model of its family")
    figures: dict = Field(description="validation figures from the file")


class AdaptersAnswer(BaseModel):
    """All adapters."""

    adapters: list[AdapterAnswer]
    unusable: dict[str, str] = Field(description="files that are no usable adapter, and why")
    enforced: str = Field(description="concepts that this WebUI always erases")


class TokensAnswer(BaseModel):
    """How the loaded model splits one concept."""

    concept: str
    weight: float
    tokens: list[str] = Field(description="without begin and end of text")
    fits: bool = Field(description=f"whether there are at most {MAX_TOKENS}")


def _adapters() -> AdaptersAnswer:
    folders = adapter_folders()
    usable, broken = list_adapters(folders)
    answers = [
        AdapterAnswer(
            name=found.name, kind=found.adapter.kind, base=found.info.base, inputs=found.info.inputs,
            concepts=list(found.info.concepts),
            automatic=taken_for(found, usable, folders), hash=found.hash, digest=found.digest,
            figures=dict(found.info.validation),
        )
        for found in usable
    ]  # fmt: skip
    return AdaptersAnswer(adapters=answers, unusable=broken, enforced=enforced_text())


def _tokens(concepts: str) -> list[TokensAnswer]:
    model = loaded_model()
    if model is None:
        raise HTTPException(status_code=409, detail="no model is loaded yet; load one, then ask again")
    try:
        check_supported(model)
        parsed = parse_concepts(concepts)
    except GieError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    split = [(concept, split_tokens(concept.text, model)[1]) for concept in parsed]
    return [
        TokensAnswer(concept=concept.text, weight=concept.weight, tokens=tokens, fits=len(tokens) <= MAX_TOKENS)
        for concept, tokens in split
    ]


def _authorised() -> list[Any]:
    """Return the check of --api-auth that the WebUI makes for its own endpoints."""
    from modules.api.api import Api  # not there before the WebUI has started its API

    if not shared.cmd_opts.api_auth:
        return []
    checker = Api.__new__(Api)
    checker.credentials = dict(pair.split(":") for pair in shared.cmd_opts.api_auth.split(","))
    return [Depends(checker.auth)]


def add_routes(_blocks: Any, app: FastAPI) -> None:
    """Add the endpoints where the WebUI has an API at all (--api): its on_app_started callback."""
    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    common: dict[str, Any] = {"methods": ["GET"], "dependencies": _authorised(), "tags": [TITLE]}
    app.add_api_route("/gie/v1/adapters", _adapters, response_model=AdaptersAnswer, **common)
    app.add_api_route("/gie/v1/tokens", _tokens, response_model=list[TokensAnswer], **common)
