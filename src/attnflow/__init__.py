"""attnflow: which tokens a Transformer's decision rests on, by a certified maximum flow."""
