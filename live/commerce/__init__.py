"""The shop's side: product feeds in. Feeds out are not built; they would stand here."""
