"""Texts, chats, token ids and images, read into encoded and batched examples."""
