"""Realtime voice and text conversations with AI models."""
