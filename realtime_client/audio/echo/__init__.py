"""The assistant's voice as it comes back through the microphone, and near speech on top of it. Pure."""
