"""The models that can be asked for, in the shape of whichever dialect asks."""

from collections.abc import Callable

from quart import Response, request
from quart_trio import QuartTrio

from maxd.http import anthropic_models, openai_models
from maxd.http.dialect import FindModel
from maxd.http.dialects import speaks_anthropic
from maxd.http.json_response import json_response
from maxd.workers.models import OfferedModel


def add_models(
    app: QuartTrio, find_model: FindModel, offered_models: Callable[[], tuple[OfferedModel, ...]]
) -> None:
    """Add the routes."""

    @app.get("/models")
    async def models() -> Response:
        if speaks_anthropic(request.path, request.scope["headers"]):
            query = request.args
            page = anthropic_models.window(
                query.get("limit"), query.get("before_id"), query.get("after_id")
            )
            return json_response(anthropic_models.encode_list(offered_models(), page))
        return json_response(openai_models.encode_list(offered_models()))

    @app.get("/models/<path:model>")
    async def model(model: str) -> Response:
        find_model(model)
        if speaks_anthropic(request.path, request.scope["headers"]):
            return json_response(anthropic_models.encode_one(model, offered_models()))
        return json_response(openai_models.encode_one(model, offered_models()))
