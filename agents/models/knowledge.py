"""Knowledge by content: a document is stored once under its hash, whatever number of versions name it."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from pgvector.django import HnswIndex, VectorField

DIMENSIONS = 256


class Document(models.Model):
    """One text, named by the SHA-256 of its content."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    title = models.CharField(max_length=300)
    language = models.CharField(max_length=8)
    topic = models.CharField(max_length=50, blank=True)
    url = models.CharField(max_length=500, blank=True)
    updated = models.DateField(null=True, blank=True)
    body = models.TextField()

    def __str__(self) -> str:
        return self.title


class Passage(models.Model):
    """A few sentences of a document that can be quoted. `lemmas` serves full text, `ngrams` forgives typing errors."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="passages")
    ordinal = models.PositiveIntegerField()
    heading = models.CharField(max_length=300, blank=True)
    text = models.TextField()
    lemmas = SearchVectorField()
    ngrams = VectorField(dimensions=DIMENSIONS)

    class Meta:
        ordering = ["document_id", "ordinal"]
        constraints = [models.UniqueConstraint(fields=["document", "ordinal"], name="agents_passage_once")]
        indexes = [
            GinIndex(fields=["lemmas"], name="agents_passage_lemmas"),
            HnswIndex(fields=["ngrams"], name="agents_passage_ngrams", opclasses=["vector_ip_ops"]),
        ]

    def __str__(self) -> str:
        return f"{self.document.title} ¶{self.ordinal + 1}"
