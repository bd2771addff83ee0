"""What runs a graph: TensorRT, ONNX Runtime or torch for an encoder, ONNX Runtime for a small language model."""
