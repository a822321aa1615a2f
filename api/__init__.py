"""The REST interface, authentication, live events and the web console."""
