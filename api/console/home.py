"""/console/: what somebody on the line can name is looked for."""

from litestar import Response, get

from api.auth import Scope
from api.console.rendering import page
from api.services import Call


@get("/console", scopes=[Scope.READ], include_in_schema=False)
async def get_home(request: Call) -> Response[str]:
    return page(request, "home.html")
