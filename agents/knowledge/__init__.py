"""The knowledge base: documents become passages, a question finds the passages that answer it."""

from agents.knowledge.ingest import SourceDocument, add_documents, read, take_in, version_content
from agents.knowledge.search import Hit, search, search_sync

__all__ = ["Hit", "SourceDocument", "add_documents", "read", "search", "search_sync", "take_in", "version_content"]
