"""SIP and GB/T 28181: a pure protocol core (protocol/) and thin asyncio shells around it."""
