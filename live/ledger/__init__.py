"""Postgres: settlement, money, what hosts write, rebuild, audit, housekeeping."""
