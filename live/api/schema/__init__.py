"""Requests and answers of both ways to call: their types, one decoder, one wording of faults."""
