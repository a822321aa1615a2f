"""Who may see it: the policy decision, leases, and the ledger that records every retrieval."""
