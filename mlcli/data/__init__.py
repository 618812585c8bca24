"""A user's data: folders, lists, classes, identities, pairs, domains, preprocessing."""
