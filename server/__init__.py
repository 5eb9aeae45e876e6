"""The service: experiments over HTTP, kept in one SQLite file."""
