"""One claude CLI process as a worker: its messages, its life, and the end of its process tree."""
