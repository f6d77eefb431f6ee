"""Personal data that a policy keeps out of what is stored: what a token stands for, sealed."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from agents.models.case import Case


class PrivateValue(models.Model):
    """What `[kind:token]` stands for in the texts of one case. It goes with the case."""

    token = models.CharField(max_length=16, primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="private_values")
    kind = models.CharField(max_length=20)
    sealed = models.TextField()
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"[{self.kind}:{self.token}]"
