"""The page itself."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

STATIC: Final = Path(__file__).parents[1] / "static"
"""What the front end is built into."""

router = APIRouter()

# Where it was not built, as in a checkout of the sources.
_NOT_BUILT: Final = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>dbt</title></head>
<body><p>The front end of this page was not built: nox -s ui_build</p></body></html>
"""


@router.get("/run")
async def get_page(request: Request) -> Response:
    """Answer with the page; what it shows it asks for itself."""
    del request
    index = STATIC / "index.html"
    headers = {"Cache-Control": "no-cache"}
    if index.exists():
        return FileResponse(index, media_type="text/html", headers=headers)
    return HTMLResponse(_NOT_BUILT, headers=headers)
