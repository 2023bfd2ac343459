"""The shop's side: product data in."""
