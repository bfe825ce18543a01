"""Trained models for other programs: ONNX, with raw columns in and predictions out."""

from distbp.export.onnx import to_onnx

__all__ = ["to_onnx"]
