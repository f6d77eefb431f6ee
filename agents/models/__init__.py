from agents.models.agent import Agent, Channel, Scope, StageChange
from agents.models.call import Call, CallBody, CallHour, CallMinute
from agents.models.case import Case, Turn
from agents.models.credential import Credential
from agents.models.dryrun import DryRun, DryRunChange
from agents.models.knowledge import Document, Passage
from agents.models.private import PrivateValue
from agents.models.release import Deployment, Release, Version

__all__ = [
    "Agent",
    "Call",
    "CallBody",
    "CallHour",
    "CallMinute",
    "Case",
    "Channel",
    "Credential",
    "Deployment",
    "Document",
    "DryRun",
    "DryRunChange",
    "Passage",
    "PrivateValue",
    "Release",
    "Scope",
    "StageChange",
    "Turn",
    "Version",
]
