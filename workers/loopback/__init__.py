"""The loopback model: a scripted Messages API server on loopback that a real CLI can use."""

from maxd.workers.loopback.environment import environment
from maxd.workers.loopback.reply import (
    Error,
    Limit,
    Reply,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    Usage,
)
from maxd.workers.loopback.script import Request, Script
from maxd.workers.loopback.server import LoopbackModel, serve_loopback_model

__all__ = [
    "Error",
    "Limit",
    "LoopbackModel",
    "Reply",
    "Request",
    "Script",
    "TextBlock",
    "ThinkingBlock",
    "ToolUseBlock",
    "Usage",
    "environment",
    "serve_loopback_model",
]
