"""Hints: pictures made live of each frame that ControlNets and T2I-Adapters are shown; see ``pipeline.hints.hints``."""
