"""Keys of model providers that are kept here, sealed."""

from django.core.validators import RegexValidator
from django.db import models


class Credential(models.Model):
    """A provider's key by the name that a ModelConfig gives it (`stored:<name>`). `sealed` is encrypted; of the key
    itself only its last characters are ever shown."""

    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[RegexValidator(r"^[a-z][a-z0-9-]*$", "Lower-case letters, digits and hyphens, e.g. openai-eu.")],
    )
    sealed = models.TextField()
    hint = models.CharField(max_length=4, blank=True)
    actor = models.CharField(max_length=160)
    at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
