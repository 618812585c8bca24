"""Images painted in the style of others: style transfer and image analogies."""
