"""What the server says over HTTP: the documents' and the OpenAI-compatible endpoints."""
