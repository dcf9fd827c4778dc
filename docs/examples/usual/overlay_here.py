import onnx_deconv

found = onnx_deconv.explain("model.onnx", "photo.jpg")
found.overlay.save("overlay.png")
print(found.caption)
