"""Simulated devices and a lower platform: own processes that speak SIP and send real pictures."""
