"""The media plane as Python sees it: sessions, tickets and events; packets stay in the Rust engine."""
