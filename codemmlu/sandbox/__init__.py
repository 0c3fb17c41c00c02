"""The sandbox: strangers' programs compute and print, and reach nothing else. The room knows nothing of questions."""

from codemmlu.sandbox.backends import BACKENDS, open_sandbox
from codemmlu.sandbox.protocol import Limits, Outcome, Program, Sandbox, SandboxMissing, Status

__all__ = ["BACKENDS", "Limits", "Outcome", "Program", "Sandbox", "SandboxMissing", "Status", "open_sandbox"]
