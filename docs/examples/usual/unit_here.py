import onnx_deconv

onnx_deconv.explain("model.onnx", "photo.jpg", 17, layer="conv4", position=(6, 6)).save("unit.png")
