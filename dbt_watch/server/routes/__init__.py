"""The routes of the API: invocations, what they wrote, and the server itself. `app` puts them together."""
