"""Builders that several tests share: models, tokenizers, networks, pages; no test stands here."""
