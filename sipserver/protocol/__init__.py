"""Sans-IO core of SIP and GB/T 28181: bytes and `now` in; bytes, events, a deadline out. No socket, task or clock."""
