import onnx_deconv

onnx_deconv.explain("model.onnx", "photo.jpg", [281, 207]).save("compare.png")
