"""``python -m onnx_deconv`` is ``onnx-deconv``."""

from onnx_deconv.cli import main

if __name__ == "__main__":
    main()
