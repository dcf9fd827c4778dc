import io

from fastapi import FastAPI, HTTPException, Request, Response

import onnx_deconv

app, explainer = FastAPI(), onnx_deconv.Explainer("model.onnx", "auto")


@app.post("/explain")
async def explain(request: Request, target: str | None = None) -> Response:
    try:
        found = explainer.explain(await request.body(), target)
    except onnx_deconv.DeconvError as error:
        raise HTTPException(400, str(error)) from error
    file = io.BytesIO()
    found.overlay.save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png", headers={"X-Class": str(found.channel)})
