"""Payments, refunds and invoices as rows: every call to a provider is remembered here."""
