"""The assistant's voice that comes back through the microphone, and near speech over it. Pure."""
