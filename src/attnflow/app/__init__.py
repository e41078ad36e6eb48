"""The live app: a local page on which texts are typed, explained, edited and compared.

Three parts, each of which can fail alone:

- The page in the browser (`app_assets`) shows results in a sandboxed frame.
- The server (`server`, `guard`, `routes`) answers it over HTTP. It keeps the results of each
  browser apart (`sessions`), and lets one explanation run at a time while others wait (`jobs`).
- The worker is a process of its own (`worker`, `explaining`), the only one that loads torch and
  models. It can be ended in the middle of its work, and may run out of memory, without a loss.

Server and worker exchange lines of JSON and files of results, never pickles. Read first: `routes`.
"""
