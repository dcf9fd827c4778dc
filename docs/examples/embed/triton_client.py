"""Explain an image on Triton: python triton_client.py HOST:PORT MODEL IMAGE.npy TARGET OUT.npy."""

import sys

import numpy as np
import tritonclient.http as triton

address, model, image, target, out = sys.argv[1:]
client = triton.InferenceServerClient(address)
# The server says what its inputs are called; the image is of one batch, preprocessed as manifest.json says.
asked = {given["name"]: given for given in client.get_model_metadata(model)["inputs"]}
pixels = np.load(image)
name = next(iter(asked))
# The class to explain, -1 for the strongest, in the sizes that the server wants; a size that is free is -1.
classes = np.full([max(int(size), 1) for size in asked["target"]["shape"]], int(target), np.int64)
inputs = [
    triton.InferInput(name, pixels.shape, asked[name]["datatype"]),
    triton.InferInput("target", classes.shape, "INT64"),
]
for given, array in zip(inputs, (pixels, classes), strict=True):
    given.set_data_from_numpy(array)
answer = client.infer(model, inputs)
print(answer.as_numpy("explained"))  # what was explained, said by the graph itself
np.save(out, answer.as_numpy("reconstruction"))
