import io

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

import onnx_deconv

explainer = onnx_deconv.Explainer("model.onnx", "auto")


async def explain(request):
    try:
        found = explainer.explain(await request.body(), request.query_params.get("target"))
    except onnx_deconv.DeconvError as error:
        raise HTTPException(400, str(error)) from error
    file = io.BytesIO()
    found.overlay.save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png", headers={"X-Class": str(found.channel)})


app = Starlette(routes=[Route("/explain", explain, methods=["POST"])])
